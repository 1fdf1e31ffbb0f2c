/** One HTTP action: everything that it can be told. */
import {
  ActionIcon,
  Button,
  Card,
  Collapse,
  Group,
  NumberInput,
  Select,
  SimpleGrid,
  Stack,
  Switch,
  Textarea,
  TextInput,
  Title,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { usableTunnels } from "@/api/queries";
import { ProblemAlert } from "@/ui/states";
import { type ActionDraft, CONTENT_TYPES, type Faults, newKey } from "./draft";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const CONTENT_LABELS = {
  none: "No body",
  json: "JSON",
  form: "Form fields",
  xml: "XML",
  text: "Text",
  other: "Another type",
} as const;

export function ActionForm({
  draft,
  faults,
  number,
  of,
  team,
  onChange,
  onMove,
  onRemove,
}: {
  draft: ActionDraft;
  /** Nothing before the first try to save. */
  faults: Faults;
  number: number;
  of: number;
  team: string;
  onChange: (draft: ActionDraft) => void;
  onMove: (by: -1 | 1) => void;
  onRemove: () => void;
}) {
  const [isMore, more] = useDisclosure(draft.headers.length > 0 || draft.caCertificates !== "");
  const set = (change: Partial<ActionDraft>) => onChange({ ...draft, ...change });
  const title = `Action ${number}`;
  return (
    <Card withBorder className="card" p="lg" component="fieldset" m={0} aria-label={title}>
      <Stack>
        <Group justify="space-between">
          <Title order={2} size="sm">
            {title}
          </Title>
          <Group gap={4}>
            <ActionIcon
              variant="default"
              aria-label={`Move ${title} up`}
              disabled={number === 1}
              onClick={() => onMove(-1)}
            >
              ↑
            </ActionIcon>
            <ActionIcon
              variant="default"
              aria-label={`Move ${title} down`}
              disabled={number === of}
              onClick={() => onMove(1)}
            >
              ↓
            </ActionIcon>
            <ActionIcon
              variant="default"
              aria-label={`Remove ${title}`}
              disabled={of === 1}
              onClick={onRemove}
            >
              ×
            </ActionIcon>
          </Group>
        </Group>
        <TextInput
          label="Name"
          maxLength={128}
          value={draft.name}
          error={faults.name}
          onChange={(event) => set({ name: event.currentTarget.value })}
        />
        <Group align="flex-start" gap="sm" wrap="wrap">
          <Select
            label="Method"
            data={METHODS.includes(draft.method) ? METHODS : [...METHODS, draft.method]}
            allowDeselect={false}
            w={130}
            value={draft.method}
            error={faults.method}
            onChange={(method) => method && set({ method })}
          />
          <TextInput
            label="URL"
            placeholder="http://wiki.corp/"
            spellCheck={false}
            flex="1 1 16rem"
            value={draft.url}
            error={faults.url}
            onChange={(event) => set({ url: event.currentTarget.value })}
          />
        </Group>
        <UseTunnel draft={draft} fault={faults.tunnel} team={team} set={set} />
        <Group align="flex-start" gap="sm">
          <Select
            label="Body"
            data={CONTENT_TYPES.map((value) => ({ value, label: CONTENT_LABELS[value] }))}
            allowDeselect={false}
            w={180}
            value={draft.contentType}
            onChange={(value) => set({ contentType: CONTENT_TYPES.find((each) => each === value) })}
          />
          {draft.contentType === "other" && (
            <TextInput
              label="Media type"
              placeholder="text/csv"
              flex="1 1 12rem"
              value={draft.mediaType}
              error={faults.mediaType}
              onChange={(event) => set({ mediaType: event.currentTarget.value })}
            />
          )}
        </Group>
        {draft.contentType !== "none" && (
          <Textarea
            label="What the body holds"
            autosize
            minRows={3}
            maxRows={16}
            spellCheck={false}
            ff="monospace"
            value={draft.body}
            error={faults.body}
            onChange={(event) => set({ body: event.currentTarget.value })}
          />
        )}
        <Group>
          <Button size="xs" variant="default" onClick={more.toggle} aria-expanded={isMore}>
            {isMore ? "Fewer options" : "More options"}
          </Button>
        </Group>
        <Collapse expanded={isMore}>
          <Stack>
            <Headers draft={draft} fault={faults.headers} set={set} />
            <SimpleGrid cols={{ base: 1, xs: 2 }}>
              <NumberInput
                label="Timeout in seconds"
                min={1}
                max={300}
                value={draft.timeout}
                error={faults.timeout}
                onChange={(value) => set({ timeout: Number(value) })}
              />
              <NumberInput
                label="Bytes of the response that are kept"
                min={0}
                max={4_194_304}
                thousandSeparator
                value={draft.responseLimit}
                error={faults.responseLimit}
                onChange={(value) => set({ responseLimit: Number(value) })}
              />
            </SimpleGrid>
            <Textarea
              label="Certificates of authorities to trust besides the public ones"
              description="PEM, for https"
              autosize
              minRows={2}
              maxRows={8}
              spellCheck={false}
              value={draft.caCertificates}
              onChange={(event) => set({ caCertificates: event.currentTarget.value })}
            />
          </Stack>
        </Collapse>
      </Stack>
    </Card>
  );
}

function UseTunnel({
  draft,
  fault,
  team,
  set,
}: {
  draft: ActionDraft;
  fault: string | undefined;
  team: string;
  set: (change: Partial<ActionDraft>) => void;
}) {
  const {
    data = [],
    error,
    refetch,
    isSuccess,
  } = useQuery({ ...usableTunnels(team), enabled: team !== "" });
  const options = data.map((tunnel) => ({
    value: tunnel.name,
    label: `${tunnel.display_name} · ${tunnel.health}`,
    disabled: false,
  }));
  // What was chosen before stays in sight, with the reason why it does not work.
  if (isSuccess && draft.tunnel && !data.some(({ name }) => name === draft.tunnel)) {
    options.push({
      value: draft.tunnel,
      label: `${draft.tunnel} · this team may not use it`,
      disabled: true,
    });
  }
  return (
    <Stack gap="xs">
      <Switch
        label="Use tunnel"
        description="Send the request through a tunnel into a private network"
        checked={draft.usesTunnel}
        onChange={(event) => set({ usesTunnel: event.currentTarget.checked })}
      />
      {draft.usesTunnel && error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
      {draft.usesTunnel && (
        <Select
          label="Tunnel"
          placeholder={
            isSuccess && data.length === 0 ? "This team may use no tunnel" : "Choose a tunnel"
          }
          description={team ? undefined : "Choose the team first"}
          disabled={!team}
          searchable
          maw={420}
          data={options}
          value={draft.tunnel || null}
          error={fault}
          onChange={(value) => set({ tunnel: value ?? "" })}
          nothingFoundMessage="This team may use no such tunnel"
        />
      )}
    </Stack>
  );
}

function Headers({
  draft,
  fault,
  set,
}: {
  draft: ActionDraft;
  fault: string | undefined;
  set: (change: Partial<ActionDraft>) => void;
}) {
  const { headers } = draft;
  const change = (key: string, next: { name?: string; value?: string }) =>
    set({
      headers: headers.map((header) => (header.key === key ? { ...header, ...next } : header)),
    });
  return (
    <Stack gap="xs">
      {headers.map((header, index) => (
        <Group key={header.key} gap="xs" align="flex-end" wrap="nowrap">
          <TextInput
            label={`Header ${index + 1}`}
            placeholder="Accept"
            spellCheck={false}
            flex={1}
            value={header.name}
            onChange={(event) => change(header.key, { name: event.currentTarget.value })}
            error={index === 0 ? fault : undefined}
          />
          <TextInput
            label={`Value ${index + 1}`}
            spellCheck={false}
            flex={2}
            value={header.value}
            onChange={(event) => change(header.key, { value: event.currentTarget.value })}
          />
          <ActionIcon
            variant="default"
            size={36}
            aria-label={`Remove header ${index + 1}`}
            onClick={() => set({ headers: headers.filter(({ key }) => key !== header.key) })}
          >
            ×
          </ActionIcon>
        </Group>
      ))}
      <Group>
        <Button
          size="xs"
          variant="default"
          onClick={() => set({ headers: [...headers, { key: newKey(), name: "", value: "" }] })}
        >
          Add a header
        </Button>
      </Group>
    </Stack>
  );
}
