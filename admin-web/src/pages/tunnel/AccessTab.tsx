/** Who may use the tunnel. */
import { Button, Card, Group, Stack, Text } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { answer, api } from "@/api/client";
import { tunnel as tunnelQuery, tunnels } from "@/api/queries";
import { isStale, useVersion } from "@/api/version";
import { type Access, AccessForm } from "@/parts/AccessForm";
import { ApiCall } from "@/parts/ApiCall";
import { RolloutNote } from "@/parts/RolloutNote";
import { type Faults, fieldAtFault, names, Refusal } from "@/ui/refusal";
import { ProblemAlert } from "@/ui/states";
import { useTunnel } from "./useTunnel";

const FAULTS: Faults<"teams"> = { teams: names(/no team/) };

export function AccessTab() {
  const tunnel = useTunnel();
  const queries = useQueryClient();
  // What was chosen here stands until it is saved or given up, whatever others do meanwhile.
  const [draft, setDraft] = useState<Access>();
  const version = useVersion(tunnel.etag);
  const access = draft ?? tunnel.access;
  const isChanged = draft !== undefined && !isSame(draft, tunnel.access);
  const save = useMutation({
    mutationFn: (body: Access) =>
      answer(
        api.PUT("/api/v1/admin/tunnel/{name}/access", {
          params: { path: { name: tunnel.name }, header: { "If-Match": version.etag } },
          body,
        }),
      ),
    onSuccess: async () => {
      await Promise.all([
        queries.invalidateQueries(tunnelQuery(tunnel.name)),
        queries.invalidateQueries(tunnels),
      ]);
      setDraft(undefined);
      version.end();
    },
    onError: async (error) => {
      if (!isStale(error)) return;
      await queries.invalidateQueries(tunnelQuery(tunnel.name));
      version.end();
    },
  });
  const fault = fieldAtFault(save.error, FAULTS);
  const choose = (next: Access) => {
    version.begin();
    setDraft(next);
    save.reset();
  };
  return (
    <Card withBorder className="card" p="lg">
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
            onChange={choose}
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
              <Button
                variant="default"
                onClick={() => {
                  setDraft(undefined);
                  version.end();
                  save.reset();
                }}
                disabled={save.isPending}
              >
                Discard
              </Button>
            )}
          </Group>
          <ApiCall method="PUT" path={`/api/v1/admin/tunnel/${tunnel.name}/access`} body={access} />
        </Stack>
      </form>
    </Card>
  );
}

function isSame(a: Access, b: Access): boolean {
  if (a.mode === "any_team" || b.mode === "any_team") return a.mode === b.mode;
  return [...a.teams].sort().join() === [...b.teams].sort().join();
}
