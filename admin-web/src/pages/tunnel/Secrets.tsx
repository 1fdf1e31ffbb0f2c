/** The tunnel's secrets: which are live, who uses which, how to replace one. */
import { Badge, Button, Card, Group, List, Stack, Text, Title } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { answer, api, type Schemas } from "@/api/client";
import { tunnel as tunnelQuery } from "@/api/queries";
import { count } from "@/lib/text";
import { RolloutNote } from "@/parts/RolloutNote";
import { RECIPES } from "@/parts/recipes";
import { SecretSteps } from "@/parts/SecretSteps";
import { Confirm } from "@/ui/Confirm";
import { Dim, Rows } from "@/ui/Rows";
import { ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";
import { useTunnel } from "./useTunnel";

type Secret = Schemas["SecretView"];

/** How people tell secrets apart: the end of the key's id, as it stands in the connector's log. */
const short = (secret: Pick<Secret, "key">) => secret.key.slice(-6);

export function Secrets() {
  const tunnel = useTunnel();
  const queries = useQueryClient();
  const [asked, setAsked] = useState<Secret>();
  const [recipe, setRecipe] = useState(RECIPES[0]?.id ?? "");
  const live = tunnel.secrets.filter((secret) => !secret.revoked_at);
  const lookUp = () => queries.invalidateQueries(tunnelQuery(tunnel.name));
  const add = useMutation({
    mutationFn: () =>
      answer(
        api.POST("/api/v1/admin/tunnel/{name}/secrets", {
          params: { path: { name: tunnel.name } },
        }),
      ),
    onSuccess: lookUp,
  });
  const revoke = useMutation({
    mutationFn: (key: string) =>
      answer(
        api.DELETE("/api/v1/admin/tunnel/{name}/secrets/{key}", {
          params: { path: { name: tunnel.name, key } },
        }),
      ),
    onSuccess: async () => {
      await lookUp();
      setAsked(undefined);
    },
  });
  const ask = (secret: Secret) => {
    revoke.reset();
    setAsked(secret);
  };
  return (
    <Stack gap="lg">
      <Card withBorder className="card" p="lg">
        <Title order={2} mb="sm">
          Secrets
        </Title>
        <SecretsTable secrets={tunnel.secrets} onRevoke={ask} />
        {revoke.data && <RolloutNote rollout={revoke.data.rollout} title="Revoked" />}
      </Card>
      {live.length === 0 && (
        <Card withBorder className="card" p="lg">
          <Title order={2} mb="sm">
            No live secret
          </Title>
          <Text size="sm" mb="md">
            No connector can connect until there is one.
          </Text>
          {add.error && <ProblemAlert error={add.error} />}
          <Button onClick={() => add.mutate()} loading={add.isPending}>
            Make a secret
          </Button>
        </Card>
      )}
      {live.length > 0 && (
        <Card withBorder className="card" p="lg">
          <Title order={2} mb="sm">
            Replace the secret without an interruption
          </Title>
          <Rotation
            live={live}
            isAdding={add.isPending}
            error={add.error}
            onAdd={() => add.mutate()}
            onRevoke={ask}
          />
        </Card>
      )}
      {add.data && live.some((secret) => secret.key === add.data.key) && (
        <Card withBorder className="card" p="lg">
          <Title order={2} mb="sm">
            Start the connectors with the new secret {short(add.data)}
          </Title>
          <SecretSteps
            secret={add.data.secret}
            tunnel={tunnel.name}
            recipe={recipe}
            onRecipe={setRecipe}
          />
        </Card>
      )}
      <Confirm
        opened={asked !== undefined}
        onClose={() => setAsked(undefined)}
        title={`Revoke secret ${asked ? short(asked) : ""}`}
        word={tunnel.name}
        action="Revoke the secret"
        isPending={revoke.isPending}
        error={revoke.error}
        onConfirm={() => asked && revoke.mutate(asked.key)}
      >
        {asked && asked.links > 0
          ? `${count(asked.links, "link")} that it holds ${asked.links === 1 ? "is" : "are"} cut at once. `
          : "No link uses it now. "}
        A revoked secret never works again.
        {live.length === 1 && " It is the only one: the tunnel then carries nothing."}
      </Confirm>
    </Stack>
  );
}

function Rotation({
  live,
  isAdding,
  error,
  onAdd,
  onRevoke,
}: {
  live: readonly Secret[];
  isAdding: boolean;
  error: unknown;
  onAdd: () => void;
  onRevoke: (secret: Secret) => void;
}) {
  const [old, fresh] = live;
  const isUsed = (old?.links ?? 0) > 0;
  return (
    <Stack>
      <List type="ordered" size="sm" spacing="xs">
        <List.Item fw={fresh ? undefined : 600}>
          Add a second secret. {fresh && `Done: ${short(fresh)}.`}
        </List.Item>
        <List.Item fw={fresh && isUsed ? 600 : undefined}>
          Restart every connector with it, one after the other.{" "}
          {fresh &&
            old &&
            isUsed &&
            `${count(old.links, "link still uses", "links still use")} ${short(old)}.`}
          {fresh && old && !isUsed && `Nobody uses ${short(old)} any more.`}
        </List.Item>
        <List.Item fw={fresh && !isUsed ? 600 : undefined}>Revoke the first secret.</List.Item>
      </List>
      {error != null && <ProblemAlert error={error} />}
      <Group>
        {!fresh && (
          <Button onClick={onAdd} loading={isAdding}>
            Add a second secret
          </Button>
        )}
        {fresh && old && (
          <Button variant={isUsed ? "default" : "filled"} onClick={() => onRevoke(old)}>
            Revoke {short(old)}
          </Button>
        )}
      </Group>
    </Stack>
  );
}

function SecretsTable({
  secrets,
  onRevoke,
}: {
  secrets: readonly Secret[];
  onRevoke: (secret: Secret) => void;
}) {
  return (
    <Rows
      label="Secrets"
      kind="secret"
      items={[...secrets].reverse()}
      itemKey={({ key }) => key}
      columns={[
        {
          label: "Secret",
          cell: (secret) => <code title={secret.key}>{short(secret)}</code>,
        },
        {
          label: "State",
          cell: ({ revoked_at: at }) =>
            at ? (
              <Dim>
                Revoked <When at={at} />
              </Dim>
            ) : (
              <Badge variant="default">Live</Badge>
            ),
        },
        { label: "Links", cell: ({ links }) => links },
        { label: "Made", cell: ({ created_at }) => <When at={created_at} /> },
        {
          label: "Last used",
          cell: ({ last_used_at: at }) => (at ? <When at={at} /> : "never"),
        },
        {
          label: "Action",
          cell: (secret) =>
            !secret.revoked_at && (
              <Button
                size="xs"
                variant="default"
                onClick={() => onRevoke(secret)}
                aria-label={`Revoke secret ${short(secret)}`}
              >
                Revoke
              </Button>
            ),
        },
      ]}
    />
  );
}
