/** What went through the tunnel: requests, latency, bytes, and refusals by their code. */
import {
  Card,
  Group,
  SegmentedControl,
  SimpleGrid,
  Stack,
  Table,
  Text,
  Title,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { type Span, traffic } from "@/api/queries";
import { bytes, count } from "@/lib/text";
import { Loading, ProblemAlert } from "@/ui/states";
import { Chart } from "./Chart";
import { bars, refusals } from "./series";

const SPANS: { value: Span; label: string; from: string }[] = [
  { value: "1h", label: "Hour", from: "1 hour ago" },
  { value: "24h", label: "Day", from: "24 hours ago" },
  { value: "30d", label: "30 days", from: "30 days ago" },
];

export function TrafficCard({ name }: { name: string }) {
  const [span, setSpan] = useState<Span>("1h");
  const { data, error, isPending, refetch } = useQuery(traffic(name, span));
  const all = data && bars(data);
  const from = SPANS.find(({ value }) => value === span)?.from ?? "";
  const refused = data ? refusals(data) : [];
  return (
    <Card withBorder className="card" p="lg" component="section" aria-labelledby="traffic">
      <Stack gap="md">
        <Group justify="space-between">
          <Title order={2} id="traffic">
            Traffic
          </Title>
          <SegmentedControl
            aria-label="How far back"
            size="xs"
            data={SPANS.map(({ value, label }) => ({ value, label }))}
            value={span}
            onChange={(value) => {
              const chosen = SPANS.find((each) => each.value === value);
              if (chosen) setSpan(chosen.value);
            }}
          />
        </Group>
        {isPending && <Loading label="Loading the traffic" />}
        {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
        {data?.steps.length === 0 && (
          <Text c="dimmed" size="sm">
            Nothing went through the tunnel in this time. Edges report every few seconds.
          </Text>
        )}
        {all && data.steps.length > 0 && (
          <SimpleGrid cols={{ base: 1, sm: 3 }} spacing="xl">
            <Chart
              title="Requests"
              from={from}
              stacked
              format={(value) => count(value, "request")}
              series={[
                {
                  label: "Answered",
                  color: "var(--mantine-primary-color-filled)",
                  values: all.map((bar) => bar.answered),
                },
                {
                  label: "Refused",
                  color: "var(--postern-down)",
                  values: all.map((bar) => bar.refused),
                },
              ]}
            />
            <Chart
              title="Until the answer begins"
              from={from}
              format={milliseconds}
              series={[
                {
                  label: "95 of 100",
                  color: "var(--postern-inactive)",
                  values: all.map((bar) => bar.p95 ?? 0),
                },
                {
                  label: "Half",
                  color: "var(--mantine-primary-color-filled)",
                  values: all.map((bar) => bar.p50 ?? 0),
                },
              ]}
            />
            <Chart
              title="Bytes"
              from={from}
              stacked
              format={bytes}
              series={[
                {
                  label: "To clients",
                  color: "var(--mantine-primary-color-filled)",
                  values: all.map((bar) => bar.bytesDown),
                },
                {
                  label: "To origins",
                  color: "var(--postern-inactive)",
                  values: all.map((bar) => bar.bytesUp),
                },
              ]}
            />
          </SimpleGrid>
        )}
        {refused.length > 0 && (
          <Table aria-label="Refusals by code" maw={360} verticalSpacing={4}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Refused with</Table.Th>
                <Table.Th ta="right">Requests</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {refused.map(([code, number]) => (
                <Table.Tr key={code}>
                  <Table.Td>
                    <code>{code}</code>
                  </Table.Td>
                  <Table.Td ta="right">{number.toLocaleString("en")}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Stack>
    </Card>
  );
}

function milliseconds(value: number): string {
  return value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value.toPrecision(2)} ms`;
}
