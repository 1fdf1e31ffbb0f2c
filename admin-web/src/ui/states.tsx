/** What stands in the place of data: while it comes, when there is none, when it cannot be had. */
import { Alert, Button, Card, Group, Skeleton, Stack, Text, Title } from "@mantine/core";
import type { ReactNode } from "react";
import { Problem } from "@/api/problem";

export function Loading({ rows = 5, label = "Loading" }: { rows?: number; label?: string }) {
  return (
    <Stack gap="sm" role="status" aria-label={label}>
      {Array.from({ length: rows }, (_, row) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: rows that are all the same
        <Skeleton key={row} height={44} radius="md" />
      ))}
    </Stack>
  );
}

export function Empty({
  title,
  children,
  action,
}: {
  title: string;
  children: ReactNode;
  action?: ReactNode;
}) {
  return (
    <Card withBorder className="card" p="xl">
      <Stack align="center" gap="sm" py="lg">
        <Title order={2}>{title}</Title>
        <Text c="dimmed" ta="center" maw={520}>
          {children}
        </Text>
        {action}
      </Stack>
    </Card>
  );
}

/** A problem in words, with its code, and the request's id for whoever reads the log. */
export function ProblemAlert({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const problem = error instanceof Problem ? error : undefined;
  return (
    <Alert color="red" role="alert" title={problem?.title ?? "This page failed"}>
      <Stack gap={6}>
        <Text size="sm" className="wrap-anywhere">
          {sentence(problem?.message ?? (error instanceof Error ? error.message : String(error)))}
        </Text>
        {problem && <Text size="sm">{problem.fix}</Text>}
        {problem && (
          <Text size="xs" c="dimmed" className="wrap-anywhere">
            Code {problem.code}
            {problem.requestId && `, request ${problem.requestId}`}
          </Text>
        )}
        {onRetry && (
          <Group>
            <Button size="xs" variant="default" onClick={onRetry}>
              Try again
            </Button>
          </Group>
        )}
      </Stack>
    </Alert>
  );
}

export function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
