/** Join tokens: invitations for edges, for operators. */
import { Badge, Button, Group, Stack, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { createJoinToken, revokeJoinToken } from "@/api/changes";
import { joinTokens } from "@/api/queries";
import { quoted } from "@/lib/curl";
import { ApiCall } from "@/parts/ApiCall";
import { MASK, ShownOnce, useSecretGuard } from "@/parts/ShownOnce";
import { tokenState } from "@/parts/tokens";
import { Code } from "@/ui/Code";
import { notify } from "@/ui/notify";
import { Moment, Rows } from "@/ui/Rows";
import { Section } from "@/ui/Section";
import { Loading, ProblemAlert } from "@/ui/states";
import { useNow } from "@/ui/When";

export function JoinTokens() {
  const queries = useQueryClient();
  const now = useNow();
  const list = useQuery(joinTokens);
  const [isShown, setShown] = useState(false);
  const lookUp = () => queries.invalidateQueries(joinTokens);
  const create = useMutation({ mutationFn: createJoinToken, onSuccess: lookUp });
  const revoke = useMutation({
    mutationFn: revokeJoinToken,
    onSuccess: () => notify("The join token is revoked."),
    onSettled: lookUp,
  });
  const created = create.data?.token;
  useSecretGuard(created !== undefined, "token");
  const command = (token: string) =>
    `POSTERN_JOIN_TOKEN=${quoted(token)} \\\n  postern edge --region eu --address eu.example.com:7844`;
  const live = (list.data ?? []).filter((token) => tokenState(token, now) === "live");
  return (
    <Section
      title="Join tokens"
      about="An edge joins with one, and needs it no more once it has joined. Each is good for 24 hours."
    >
      {list.isPending && <Loading rows={1} />}
      {list.isError && <ProblemAlert error={list.error} onRetry={() => void list.refetch()} />}
      {revoke.error && <ProblemAlert error={revoke.error} />}
      {list.isSuccess && live.length === 0 && !created && (
        <Text size="sm" c="dimmed">
          None is live.
        </Text>
      )}
      {live.length > 0 && (
        <Rows
          label="Join tokens"
          kind="join-token"
          items={live}
          itemKey={({ id }) => id}
          columns={[
            { label: "Token", cell: ({ id }) => <code title={id}>{id.slice(-6)}</code> },
            { label: "State", cell: () => <Badge variant="default">live</Badge> },
            { label: "Made", cell: ({ created_at }) => <Moment at={created_at} /> },
            { label: "Expires", cell: ({ expires_at }) => <Moment at={expires_at} /> },
            { label: "Last used", cell: ({ last_used_at }) => <Moment at={last_used_at} /> },
            {
              label: "Action",
              cell: ({ id }) => (
                <Button
                  size="xs"
                  variant="default"
                  loading={revoke.isPending && revoke.variables === id}
                  onClick={() => revoke.mutate(id)}
                  aria-label={`Revoke join token ${id.slice(-6)}`}
                >
                  Revoke
                </Button>
              ),
            },
          ]}
        />
      )}
      {create.error && <ProblemAlert error={create.error} />}
      {created ? (
        <Stack mt="md">
          <ShownOnce
            secret={created}
            what="token"
            file="join-token.txt"
            isShown={isShown}
            onShown={setShown}
          >
            If it gets lost, make another one.
          </ShownOnce>
          <Code label="Command" text={command(created)} shown={command(isShown ? created : MASK)} />
          <Button w="fit-content" onClick={() => create.reset()}>
            I have kept the token
          </Button>
        </Stack>
      ) : (
        <Group mt="md" align="flex-start">
          <Button variant="default" loading={create.isPending} onClick={() => create.mutate()}>
            Make a join token
          </Button>
          <ApiCall method="POST" path="/api/v1/edges/join-tokens" />
        </Group>
      )}
    </Section>
  );
}
