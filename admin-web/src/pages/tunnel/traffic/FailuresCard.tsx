/** The latest requests that were refused, or whose answers broke off. */
import { Card, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { Schemas } from "@/api/client";
import { failures } from "@/api/queries";
import { Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";

/** So many are shown at first. */
const SHOWN = 10;

export function FailuresCard({ name }: { name: string }) {
  const { data, error, isPending, refetch } = useQuery(failures(name));
  const rest = data?.slice(SHOWN) ?? [];
  return (
    <Card withBorder className="card" p="lg" component="section" aria-labelledby="failures">
      <Stack gap="md">
        <Title order={2} id="failures">
          Latest failures
        </Title>
        {isPending && <Loading label="Loading the latest failures" />}
        {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
        {data?.length === 0 && (
          <Text c="dimmed" size="sm">
            No request was refused, and no answer broke off, as far as is remembered.
          </Text>
        )}
        {data && data.length > 0 && <List items={data.slice(0, SHOWN)} />}
        {rest.length > 0 && (
          <details>
            <summary>{rest.length} more</summary>
            <List items={rest} />
          </details>
        )}
      </Stack>
    </Card>
  );
}

function List({ items }: { items: Schemas["FailureView"][] }) {
  return (
    <ul className="rows">
      {items.map((item, n) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: two may have failed alike at the same time
        <li key={`${item.at} ${n}`} className="row row-failure">
          <Text size="sm" c="dimmed">
            <When at={item.at} />
          </Text>
          <Text size="sm" className="wrap-anywhere">
            <code>{item.code}</code>
            {item.source && `, by the ${item.source}`}
          </Text>
          <Text size="sm" className="wrap-anywhere">
            {item.destination || "–"}
          </Text>
          <Text size="sm" className="wrap-anywhere">
            {caller(item)}
          </Text>
          <Text size="sm" className="row-rest">
            {item.detail || item.title}
            {item.phases && ` (${item.phases}, in µs)`}
            {item.fix && (
              <>
                <br />
                <b>What to do:</b> {item.fix}
              </>
            )}
          </Text>
        </li>
      ))}
    </ul>
  );
}

function caller(item: Schemas["FailureView"]): string {
  const team = item.team_name ?? "a team that is gone";
  if (item.workflow) return `A workflow of ${team}`;
  return item.token ? `A proxy token of ${team}` : team;
}
