/** The processes that hold the tunnel's secret: replicas of one another. */
import { Card, Group, Stack, Text, Title } from "@mantine/core";
import { LinkDots, SLOTS } from "@/parts/LinkDots";
import { LinksTable } from "@/parts/LinksTable";
import { GoButton } from "@/ui/Go";
import { Empty } from "@/ui/states";
import { When } from "@/ui/When";
import { useTunnel } from "./useTunnel";

export function Connectors() {
  const { connectors, name } = useTunnel();
  if (connectors.length === 0) {
    return (
      <Empty
        title="No connector"
        action={
          <GoButton to="/admin/tunnel/$name/secrets" params={{ name }}>
            Go to the secrets
          </GoButton>
        }
      >
        A connector is a process in the private network that holds the tunnel's secret. Start one
        with the secret that was shown when the tunnel was made, or make another secret.
      </Empty>
    );
  }
  return (
    <Stack>
      {connectors.map((connector) => (
        <Card
          key={connector.id}
          withBorder
          className="card"
          p="lg"
          component="section"
          aria-label={connector.host}
        >
          <Group justify="space-between" mb="xs">
            <Title order={2}>{connector.host || "Unknown host"}</Title>
            <LinkDots links={connector.links} wanted={SLOTS} />
          </Group>
          <Group gap="lg" mb="sm">
            <Fact name="Version">{connector.version || "–"}</Fact>
            <Fact name="Platform">{connector.platform || "–"}</Fact>
            <Fact name="Policy of its own">
              {connector.policy ? (
                <code title={connector.policy}>{connector.policy.slice(0, 12)}</code>
              ) : (
                "none"
              )}
            </Fact>
            <Fact name="Id">
              <code>{connector.id}</code>
            </Fact>
          </Group>
          {connector.vanished_at ? (
            <Text size="sm">
              Vanished <When at={connector.vanished_at} /> without a goodbye. It counts as missing
              for an hour.
            </Text>
          ) : (
            <LinksTable connectors={[connector]} />
          )}
        </Card>
      ))}
    </Stack>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <Text size="xs" c="dimmed">
        {name}
      </Text>
      <Text size="sm" component="div" className="wrap-anywhere">
        {children}
      </Text>
    </div>
  );
}
