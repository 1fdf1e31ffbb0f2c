/** Display name, and the end of the tunnel. */
import { Button, Card, Group, Stack, Text, TextInput, Title } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { answer, api } from "@/api/client";
import { Problem } from "@/api/problem";
import { tunnel as tunnelQuery, tunnels } from "@/api/queries";
import { isStale, useVersion } from "@/api/version";
import { count } from "@/lib/text";
import { ApiCall } from "@/parts/ApiCall";
import { Confirm } from "@/ui/Confirm";
import { notify } from "@/ui/notify";
import { type Faults, fieldAtFault, names, Refusal } from "@/ui/refusal";
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
  const [draft, setDraft] = useState<string>();
  const version = useVersion(tunnel.etag);
  const text = draft ?? tunnel.display_name;
  const isChanged = draft !== undefined && draft.trim() !== tunnel.display_name;
  const save = useMutation({
    mutationFn: (display_name: string) =>
      answer(
        api.PATCH("/api/v1/admin/tunnel/{name}", {
          params: { path: { name: tunnel.name }, header: { "If-Match": version.etag } },
          body: { display_name },
        }),
      ),
    onSuccess: async () => {
      await Promise.all([
        queries.invalidateQueries(tunnelQuery(tunnel.name)),
        queries.invalidateQueries(tunnels),
      ]);
      setDraft(undefined);
      version.end();
      notify("Saved.");
    },
    onError: async (error) => {
      if (!isStale(error)) return;
      await queries.invalidateQueries(tunnelQuery(tunnel.name));
      version.end();
    },
  });
  const fault = fieldAtFault(save.error, FAULTS);
  return (
    <Card withBorder className="card" p="lg">
      <Title order={2} mb="sm">
        Name
      </Title>
      <form
        aria-label="Name"
        onSubmit={(event) => {
          event.preventDefault();
          if (isChanged && text.trim()) save.mutate(text.trim());
        }}
      >
        <Stack maw={420}>
          <TextInput
            label="What people call it"
            maxLength={128}
            value={text}
            error={text.trim() ? fault && <Refusal error={save.error} /> : "Give the tunnel a name"}
            onChange={(event) => {
              version.begin();
              setDraft(event.currentTarget.value);
              save.reset();
            }}
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
    </Card>
  );
}

function Delete() {
  const { name, connectors } = useTunnel();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [isAsked, setAsked] = useState(false);
  const links = connectors.reduce((sum, connector) => sum + connector.links.length, 0);
  const remove = useMutation({
    mutationFn: (force: boolean) =>
      answer(
        api.DELETE("/api/v1/admin/tunnel/{name}", { params: { path: { name }, query: { force } } }),
      ),
    onSuccess: async () => {
      notify(`Tunnel ${name} is deleted.`);
      await navigate({ to: "/admin/tunnel" });
      queries.removeQueries({ queryKey: ["tunnel", name] });
      await queries.invalidateQueries(tunnels);
    },
  });
  const users = remove.error instanceof Problem ? remove.error.usedBy : [];
  return (
    <Card withBorder className="card" p="lg">
      <Title order={2} mb="sm">
        Delete
      </Title>
      <Text size="sm" mb="md">
        Workflows and proxy clients that use the tunnel are refused from then on. Its history goes
        with it.
      </Text>
      <Button
        variant="default"
        c="var(--mantine-color-error)"
        w="fit-content"
        onClick={() => setAsked(true)}
      >
        Delete the tunnel
      </Button>
      <Confirm
        opened={isAsked}
        onClose={() => {
          setAsked(false);
          remove.reset();
        }}
        title={`Delete tunnel ${name}`}
        word={name}
        action={users.length > 0 ? "Delete it all the same" : "Delete the tunnel"}
        isPending={remove.isPending}
        error={remove.error}
        onConfirm={() => remove.mutate(users.length > 0)}
      >
        {links > 0
          ? `${count(links, "link")} ${links === 1 ? "is" : "are"} up and will be cut. `
          : "No link is up. "}
        This cannot be undone.
        {users.length > 0 && ` In use by ${users.map((user) => user.name).join(", ")}.`}
      </Confirm>
    </Card>
  );
}
