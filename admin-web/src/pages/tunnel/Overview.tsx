/** How well the tunnel is and why, how well it was, and by which links it works. */
import { Card, Group, SegmentedControl, Stack, Table, Text, Title, Tooltip } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { healthHistory } from "@/api/queries";
import { count } from "@/lib/text";
import { duration, exactTime } from "@/lib/time";
import { HEALTH_WORDS, HealthMark, healthColor } from "@/parts/Health";
import { LinksTable } from "@/parts/LinksTable";
import { Go } from "@/ui/Go";
import { Scroll } from "@/ui/Scroll";
import { Loading, ProblemAlert } from "@/ui/states";
import { useNow, When } from "@/ui/When";
import { segments, servedShare } from "./timeline";
import { FailuresCard } from "./traffic/FailuresCard";
import { TrafficCard } from "./traffic/TrafficCard";
import { useTunnel } from "./useTunnel";

const DAY_MS = 86_400_000;

export function Overview() {
  const tunnel = useTunnel();
  const links = tunnel.connectors.flatMap((connector) => connector.links);
  return (
    <Stack gap="lg">
      <Card withBorder className="card" p="lg" component="section" aria-label="Now">
        <Title order={2}>Now</Title>
        <Stack gap={4} mt="sm">
          <HealthMark health={tunnel.health.health} />
          <Text size="sm">{tunnel.health.reason}</Text>
          <Text size="sm" c="dimmed">
            {count(tunnel.connectors.length, "connector")}, {count(links.length, "link")}.{" "}
            {tunnel.access.mode === "any_team"
              ? "Any team may use it."
              : `${count(tunnel.access.teams.length, "team")} may use it.`}{" "}
            <Go
              to="/admin/tunnel/$name/access"
              params={{ name: tunnel.name }}
              inherit
              underline="always"
            >
              Change
            </Go>
          </Text>
        </Stack>
      </Card>
      <TrafficCard name={tunnel.name} />
      <FailuresCard name={tunnel.name} />
      <History name={tunnel.name} createdAt={tunnel.created_at} />
      <Card withBorder className="card" p="lg">
        <Title order={2} mb="sm">
          Links
        </Title>
        <LinksTable connectors={tunnel.connectors} />
      </Card>
    </Stack>
  );
}

function History({ name, createdAt }: { name: string; createdAt: string }) {
  const { range } = useSearch({ from: "/framed/tunnels/admin/tunnel/$name/" });
  const navigate = useNavigate();
  const history = useQuery(healthHistory(name));
  const now = useNow().getTime();
  const from = now - (range === "30d" ? 30 : 1) * DAY_MS;
  const shown = segments(history.data ?? [], createdAt, from, now);
  const served = servedShare(shown);
  const latest = (history.data ?? []).slice(0, 8);
  return (
    <Card withBorder className="card" p="lg">
      <Group justify="space-between" mb="sm">
        <Title order={2}>Health over time</Title>
        <SegmentedControl
          aria-label="Range"
          size="xs"
          data={[
            { value: "24h", label: "24 hours" },
            { value: "30d", label: "30 days" },
          ]}
          value={range ?? "24h"}
          onChange={(value) =>
            void navigate({
              to: "/admin/tunnel/$name",
              params: { name },
              search: value === "30d" ? { range: "30d" } : {},
              replace: true,
            })
          }
        />
      </Group>
      {history.isPending && <Loading rows={1} />}
      {history.isError && (
        <ProblemAlert error={history.error} onRetry={() => void history.refetch()} />
      )}
      {history.data && (
        <>
          <div
            className="timeline"
            role="img"
            aria-label={`Health of the last ${range === "30d" ? "30 days" : "24 hours"}${
              served === undefined ? "" : `: serving ${(served * 100).toFixed(1)} % of the time`
            }`}
          >
            <span style={{ flexGrow: Math.max(0, (shown[0]?.from ?? now) - from) }} />
            {shown.map((segment) => (
              <Tooltip
                key={segment.from}
                label={`${segment.health} for ${duration(segment.until - segment.from)} from ${exactTime(new Date(segment.from))}: ${segment.reason}`}
                multiline
                maw={360}
              >
                <span
                  style={{
                    flexGrow: segment.until - segment.from,
                    background: healthColor(segment.health),
                  }}
                />
              </Tooltip>
            ))}
          </div>
          <Group justify="space-between" mt={4}>
            <Text size="xs" c="dimmed">
              {range === "30d" ? "30 days ago" : "24 hours ago"}
            </Text>
            <Group gap="md" visibleFrom="sm">
              {HEALTH_WORDS.map((word) => (
                <HealthMark key={word} health={word} />
              ))}
            </Group>
            <Text size="xs" c="dimmed">
              now
            </Text>
          </Group>
          <Changes latest={latest} />
        </>
      )}
    </Card>
  );
}

function Changes({ latest }: { latest: { health: string; reason: string; since: string }[] }) {
  if (latest.length === 0) {
    return (
      <Text size="sm" c="dimmed" mt="sm">
        No connector has held a link yet.
      </Text>
    );
  }
  return (
    <Scroll label="Latest changes">
      <Table mt="md">
        <Table.Caption>{count(latest.length, "change")}, the latest first</Table.Caption>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Health</Table.Th>
            <Table.Th>Since</Table.Th>
            <Table.Th>Why</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {latest.map((change) => (
            <Table.Tr key={`${change.since} ${change.reason}`}>
              <Table.Td className="nowrap">{change.health}</Table.Td>
              <Table.Td>
                <When at={change.since} />
              </Table.Td>
              <Table.Td>{change.reason}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Scroll>
  );
}
