/** One run: what each action got back, how long each part of the way took, and what failed. */
import { Alert, Card, Group, Stack, Table, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import type { Schemas } from "@/api/client";
import { Problem } from "@/api/problem";
import { type Run, run as runQuery, workflow as workflowQuery } from "@/api/queries";
import { exactTime, microseconds } from "@/lib/time";
import { RunMark } from "@/parts/RunMark";
import { Go } from "@/ui/Go";
import { Page } from "@/ui/Page";
import { Scroll } from "@/ui/Scroll";
import { Loading, ProblemAlert, sentence } from "@/ui/states";
import { When } from "@/ui/When";
import { NotFound } from "../frame/NotFound";
import { RunNow } from "../workflow/WorkflowPage";
import { Body } from "./Body";
import { bars } from "./waterfall";

type Result = Run["actions"][number];

const FAULTS: Record<string, string> = {
  client: "The workflow's",
  edge: "The edge's",
  link: "The link's, between edge and connector",
  connector: "The connector's",
  origin: "The private server's",
};

export function RunPage() {
  const { id, run } = useParams({ from: "/framed/workflows/$id/runs/$run" });
  const { data, error, isPending, refetch } = useQuery(runQuery(run));
  const workflow = useQuery(workflowQuery(id));
  if (error instanceof Problem && error.status === 404) return <NotFound />;
  const isOver = data?.finished_at != null;
  return (
    <Page
      title={`Run of ${workflow.data?.name ?? "the workflow"}`}
      about={
        data && (
          <Group gap="sm" component="span" display="inline-flex">
            <RunMark status={data.status} />
            <When at={data.created_at} />
            <Go to="/workflows/$id" params={{ id }} inherit underline="always">
              All runs
            </Go>
          </Group>
        )
      }
      actions={isOver && <RunNow id={id} label="Run again" />}
    >
      {isPending && <Loading label="Loading the run" />}
      {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
      {data && !isOver && (
        <Text role="status">The run is under way. This page changes by itself.</Text>
      )}
      {data?.actions.map((result, index) => (
        <ActionResult
          // biome-ignore lint/suspicious/noArrayIndexKey: results stay in order
          key={index}
          result={result}
          request={workflow.data?.actions.find((action) => action.name === result.name)}
        />
      ))}
    </Page>
  );
}

function ActionResult({
  result,
  request,
}: {
  result: Result;
  request: Schemas["Action"] | undefined;
}) {
  const { response, refusal } = result;
  return (
    <Card withBorder className="card" p="lg" component="section" aria-label={result.name}>
      <Stack>
        <Group justify="space-between">
          <Title order={2}>{result.name}</Title>
          <Text size="sm" c="dimmed">
            {response && `Status ${response.status} · `}
            {microseconds(result.duration_us)}
          </Text>
        </Group>
        {request && (
          <Text size="sm" className="wrap-anywhere">
            <code>
              {request.method ?? "GET"} {request.url}
            </code>
            {request.use_tunnel && ` through tunnel ${request.use_tunnel}`}
          </Text>
        )}
        {refusal && <Refusal refusal={refusal} />}
        <Waterfall result={result} />
        {response && <Response response={response} />}
        <Text size="xs" c="dimmed" className="wrap-anywhere">
          Began {exactTime(new Date(result.started_at))}
          {result.gateways &&
            result.gateways.length > 0 &&
            `, by ${result.gateways.join(", then ")}`}
        </Text>
      </Stack>
    </Card>
  );
}

function Refusal({ refusal }: { refusal: NonNullable<Result["refusal"]> }) {
  return (
    <Alert color="red" title={refusal.title} role="alert">
      <Stack gap={4}>
        <Text size="sm" className="wrap-anywhere">
          {sentence(refusal.detail)}
        </Text>
        <Text size="sm">
          <strong>Whose fault: </strong>
          {FAULTS[refusal.source] ?? refusal.source}.
        </Text>
        <Text size="sm">
          <strong>What to do: </strong>
          {refusal.fix}
        </Text>
        <Text size="xs" c="dimmed">
          Code {refusal.code}.{" "}
          {refusal.retryable
            ? "The same run can succeed later."
            : "The same run fails again until something is changed."}
        </Text>
      </Stack>
    </Alert>
  );
}

function Waterfall({ result }: { result: Result }) {
  const all = bars(result.phases, result.duration_us);
  if (all.length === 0) return null;
  return (
    <Scroll label={`Phases of ${result.name}`}>
      <Table verticalSpacing={4} miw={420}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th w={110}>Phase</Table.Th>
            <Table.Th w={100} ta="right">
              Took
            </Table.Th>
            <Table.Th>On the way</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {all.map((bar) => (
            <Table.Tr key={bar.phase}>
              <Table.Td>{bar.label}</Table.Td>
              <Table.Td ta="right" className="nowrap">
                {microseconds(bar.microseconds)}
              </Table.Td>
              <Table.Td>
                <span
                  className="bar"
                  style={{ marginInlineStart: `${bar.start * 100}%`, width: `${bar.width * 100}%` }}
                />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Scroll>
  );
}

function Response({ response }: { response: NonNullable<Result["response"]> }) {
  return (
    <Stack gap="xs">
      <details>
        <summary>{response.headers.length} header fields of the response</summary>
        <Scroll label="Header fields of the response">
          <Table verticalSpacing={4} mt="xs">
            <Table.Tbody>
              {response.headers.map(([name, value], index) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: a header may repeat
                <Table.Tr key={index}>
                  <Table.Th>{String(name)}</Table.Th>
                  <Table.Td className="wrap-anywhere">{String(value)}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Scroll>
      </details>
      <Body response={response} />
    </Stack>
  );
}
