/** The secret, and what comes of it: each link appears as it comes up. */
import { Alert, Group, Loader, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import type { Schemas } from "@/api/client";
import { tunnel } from "@/api/queries";
import { count } from "@/lib/text";
import { HealthMark } from "@/parts/Health";
import { LinkDots, linkWords, SLOTS } from "@/parts/LinkDots";
import { SecretSteps } from "@/parts/SecretSteps";
import { GoButton } from "@/ui/Go";
import { ProblemAlert } from "@/ui/states";

export function Waiting({
  created,
  recipe,
  onRecipe,
  onKept,
}: {
  created: Schemas["CreatedTunnel"];
  recipe: string;
  onRecipe: (id: string) => void;
  onKept: () => void;
}) {
  const { data, error, refetch } = useQuery(tunnel(created.name));
  const links = (data?.connectors ?? [])
    .flatMap((connector) => connector.links)
    .sort((a, b) => a.slot - b.slot);
  const isConnected = links.length > 0;
  const connectors = (data?.connectors ?? []).filter((connector) => connector.links.length > 0);
  const isDone = isConnected && links.length >= connectors.length * SLOTS;
  useEffect(() => {
    // Whoever has started a connector with the secret has it.
    if (isConnected) onKept();
  }, [isConnected, onKept]);
  return (
    <Stack gap="lg">
      <div>
        <Title order={2}>Start the connector</Title>
        <Text size="sm" c="dimmed" mt={4}>
          On a machine of the private network that can reach the edges. Nothing needs to reach that
          machine.
        </Text>
      </div>
      <SecretSteps
        secret={created.secret}
        tunnel={created.name}
        recipe={recipe}
        onRecipe={onRecipe}
      />
      {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
      <Alert
        color={isConnected ? "green" : "gray"}
        role="status"
        title={
          isDone
            ? "The tunnel is connected"
            : isConnected
              ? "Connected; more links are coming"
              : "Waiting for the connector"
        }
      >
        <Stack gap="sm">
          <Group gap="sm">
            {!isDone && <Loader size="xs" aria-hidden="true" />}
            <LinkDots links={links} wanted={Math.max(1, connectors.length) * SLOTS} />
            <Text size="sm">
              {isConnected
                ? `${count(links.length, "link")} of ${connectors.length * SLOTS}`
                : "This screen changes by itself as soon as the first link is up."}
            </Text>
          </Group>
          {isConnected && (
            <ul className="rows">
              {links.map((link) => (
                <li key={`${link.edge} ${link.slot}`}>
                  <Text size="sm" c="dimmed">
                    {linkWords(link)}
                  </Text>
                </li>
              ))}
            </ul>
          )}
          {isDone && data && <HealthMark health={data.health.health} />}
        </Stack>
      </Alert>
      <Group>
        <GoButton
          to="/admin/tunnel/$name"
          params={{ name: created.name }}
          variant={isConnected ? "filled" : "default"}
        >
          {isConnected ? "Go to the tunnel" : "Go on without waiting"}
        </GoButton>
      </Group>
    </Stack>
  );
}
