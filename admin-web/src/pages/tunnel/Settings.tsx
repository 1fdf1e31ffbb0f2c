/** Display name, and the end of the tunnel. */
import { Button, Group, Stack, Text, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { answer, api } from "@/api/client";
import { tunnel as tunnelQuery, tunnels } from "@/api/queries";
import { useDraft } from "@/api/version";
import { count } from "@/lib/text";
import { ApiCall } from "@/parts/ApiCall";
import { DeleteThing } from "@/parts/DeleteThing";
import { notify } from "@/ui/notify";
import { type Faults, fieldAtFault, names, Refusal } from "@/ui/refusal";
import { Section } from "@/ui/Section";
import { ProblemAlert } from "@/ui/states";
import { useTunnel } from "./useTunnel";

export function Settings() {
  return (
    <Stack gap="lg">
      <DisplayName />
      <Delete />
    </Stack>
  );
}

const FAULTS: Faults<"name"> = { name: names(/display/) };

function DisplayName() {
  const tunnel = useTunnel();
  const queries = useQueryClient();
  const path = { name: tunnel.name };
  const draft = useDraft({
    current: tunnel.display_name,
    etag: tunnel.etag,
    send: (text, etag) =>
      answer(
        api.PATCH("/api/v1/admin/tunnel/{name}", {
          params: { path, header: { "If-Match": etag } },
          body: { display_name: text.trim() },
        }),
      ),
    lookUp: () =>
      Promise.all([
        queries.invalidateQueries(tunnelQuery(tunnel.name)),
        queries.invalidateQueries(tunnels),
      ]),
    onSaved: () => notify("Saved."),
  });
  const { value: text, save } = draft;
  const isChanged = text.trim() !== tunnel.display_name;
  const fault = fieldAtFault(save.error, FAULTS);
  return (
    <Section title="Name">
      <form
        aria-label="Name"
        onSubmit={(event) => {
          event.preventDefault();
          if (isChanged && text.trim()) save.mutate(text);
        }}
      >
        <Stack maw={420}>
          <TextInput
            label="What people call it"
            maxLength={128}
            value={text}
            error={text.trim() ? fault && <Refusal error={save.error} /> : "Give the tunnel a name"}
            onChange={(event) => draft.set(event.currentTarget.value)}
          />
          <Text size="sm" c="dimmed">
            Its name <code>{tunnel.name}</code> stands in URLs and in proxy credentials and never
            changes.
          </Text>
          {save.error && !fault && <ProblemAlert error={save.error} />}
          <Group>
            <Button type="submit" disabled={!isChanged || !text.trim()} loading={save.isPending}>
              Save
            </Button>
          </Group>
          <ApiCall
            method="PATCH"
            path={`/api/v1/admin/tunnel/${tunnel.name}`}
            body={{ display_name: text.trim() }}
          />
        </Stack>
      </form>
    </Section>
  );
}

function Delete() {
  const { name, connectors } = useTunnel();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const links = connectors.reduce((sum, connector) => sum + connector.links.length, 0);
  return (
    <DeleteThing
      what="tunnel"
      name={name}
      about="Workflows and proxy clients that use the tunnel are refused from then on. Its history goes with it."
      remove={(force) =>
        answer(
          api.DELETE("/api/v1/admin/tunnel/{name}", {
            params: { path: { name }, query: { force } },
          }),
        )
      }
      onDeleted={async () => {
        await navigate({ to: "/admin/tunnel" });
        queries.removeQueries({ queryKey: ["tunnel", name] });
        await queries.invalidateQueries(tunnels);
      }}
    >
      {links > 0
        ? `${count(links, "link")} ${links === 1 ? "is" : "are"} up and will be cut.`
        : "No link is up."}
    </DeleteThing>
  );
}
