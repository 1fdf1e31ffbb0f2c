import { Anchor, Card, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { about } from "@/api/queries";
import { Page } from "@/ui/Page";
import { Loading, ProblemAlert } from "@/ui/states";

export function About() {
  const { data, error, isPending, refetch } = useQuery(about);
  return (
    <Page title="About">
      <Card withBorder className="card" p="lg">
        <Stack gap="sm">
          <Title order={2}>Postern</Title>
          {isPending && <Loading rows={1} />}
          {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
          {data && <Text>Version {data.version}</Text>}
          <Text>
            Private networks for cloud workflows, without one inbound port. Apache License 2.0.
          </Text>
          <Text>
            The console contains works of others under{" "}
            <Anchor href="/licenses.txt" inherit underline="always">
              their licences
            </Anchor>
            .
          </Text>
          <Text>
            Documentation is in the repository's directory <code>docs</code>: how to run connectors
            and a deployment, what refusals mean, the API.
          </Text>
        </Stack>
      </Card>
    </Page>
  );
}
