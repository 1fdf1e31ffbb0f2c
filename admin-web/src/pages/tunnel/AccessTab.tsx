/** Who may use the tunnel. */
import { Button, Group, Stack, Text } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { answer, api, type Schemas } from "@/api/client";
import { tunnel as tunnelQuery, tunnels, tunnelUsage } from "@/api/queries";
import { useDraft } from "@/api/version";
import { type Access, AccessForm } from "@/parts/AccessForm";
import { ApiCall } from "@/parts/ApiCall";
import { RolloutNote } from "@/parts/RolloutNote";
import { Go } from "@/ui/Go";
import { Dim, Rows } from "@/ui/Rows";
import { type Faults, fieldAtFault, names, Refusal } from "@/ui/refusal";
import { Section } from "@/ui/Section";
import { Loading, ProblemAlert } from "@/ui/states";
import { useTunnel } from "./useTunnel";

const FAULTS: Faults<"teams"> = { teams: names(/no team/) };

export function AccessTab() {
  const tunnel = useTunnel();
  return (
    <Stack gap="lg">
      <Edit tunnel={tunnel} />
      <Usage name={tunnel.name} />
    </Stack>
  );
}

function Edit({ tunnel }: { tunnel: Schemas["TunnelView"] }) {
  const queries = useQueryClient();
  const draft = useDraft<Access, Schemas["SetAccess"]>({
    current: tunnel.access,
    etag: tunnel.etag,
    send: (body, etag) =>
      answer(
        api.PUT("/api/v1/admin/tunnel/{name}/access", {
          params: { path: { name: tunnel.name }, header: { "If-Match": etag } },
          body,
        }),
      ),
    lookUp: () =>
      Promise.all([
        queries.invalidateQueries(tunnelQuery(tunnel.name)),
        queries.invalidateQueries(tunnels),
        queries.invalidateQueries(tunnelUsage(tunnel.name)),
      ]),
  });
  const { value: access, save } = draft;
  const isChanged = !isSame(access, tunnel.access);
  const fault = fieldAtFault(save.error, FAULTS);
  return (
    <Section title="Access">
      <form
        aria-label="Access"
        onSubmit={(event) => {
          event.preventDefault();
          if (isChanged) save.mutate(access);
        }}
      >
        <Stack maw={620}>
          <AccessForm
            value={access}
            error={fault && <Refusal error={save.error} />}
            onChange={draft.set}
          />
          <Text size="sm" c="dimmed">
            Access is checked on every request. When it is taken away, streams that are no longer
            allowed are cut.
          </Text>
          {save.error && !fault && <ProblemAlert error={save.error} />}
          {save.data && !isChanged && <RolloutNote rollout={save.data.rollout} title="Saved" />}
          <Group>
            <Button type="submit" loading={save.isPending} disabled={!isChanged}>
              Save
            </Button>
            {isChanged && (
              <Button variant="default" onClick={draft.discard} disabled={save.isPending}>
                Discard
              </Button>
            )}
          </Group>
          <ApiCall method="PUT" path={`/api/v1/admin/tunnel/${tunnel.name}/access`} body={access} />
        </Stack>
      </form>
    </Section>
  );
}

/** Who can use the tunnel now, and who would if they might. */
function Usage({ name }: { name: string }) {
  const usage = useQuery(tunnelUsage(name));
  const teams = usage.data?.teams ?? [];
  return (
    <Section title="Who can use it now" about="Teams, with their workflows that name the tunnel.">
      {usage.isPending && <Loading rows={2} />}
      {usage.isError && <ProblemAlert error={usage.error} onRetry={() => void usage.refetch()} />}
      {usage.isSuccess && teams.length === 0 && (
        <Text size="sm" c="dimmed">
          Nobody.
        </Text>
      )}
      {teams.length > 0 && (
        <Rows
          label="Teams that can use it"
          kind="usage"
          items={teams}
          itemKey={({ id }) => id}
          columns={[
            {
              label: "Team",
              cell: ({ id, name, is_allowed }) => (
                <>
                  <Go to="/teams/$id" params={{ id }} fw={600}>
                    {name}
                  </Go>
                  {!is_allowed && (
                    <Text size="xs" c="dimmed">
                      is refused: it is not among the chosen teams
                    </Text>
                  )}
                </>
              ),
            },
            {
              label: "Workflows",
              cell: ({ workflows }) =>
                workflows.length === 0 ? (
                  <Dim>none</Dim>
                ) : (
                  workflows.map(({ id, name }) => (
                    <div key={id}>
                      <Go to="/workflows/$id" params={{ id }} size="sm">
                        {name}
                      </Go>
                    </div>
                  ))
                ),
            },
            {
              label: "Live proxy tokens",
              cell: ({ proxy_tokens: tokens }) => (
                <Dim>{tokens.map(({ name }) => name).join(", ") || "none"}</Dim>
              ),
            },
          ]}
        />
      )}
      {usage.data?.is_complete === false && (
        <Text size="sm" c="dimmed">
          There are more workflows or tokens than are looked at here.
        </Text>
      )}
    </Section>
  );
}

function isSame(a: Access, b: Access): boolean {
  if (a.mode === "any_team" || b.mode === "any_team") return a.mode === b.mode;
  return [...a.teams].sort().join() === [...b.teams].sort().join();
}
