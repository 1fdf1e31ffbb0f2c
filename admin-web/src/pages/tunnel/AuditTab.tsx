/** What was changed of the tunnel, by whom. */
import { Button, Group, Stack } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { tunnelAudit } from "@/api/queries";
import { AuditRows } from "@/parts/AuditRows";
import { Loading, ProblemAlert } from "@/ui/states";
import { useTunnel } from "./useTunnel";

export function AuditTab() {
  const { name } = useTunnel();
  const log = useInfiniteQuery(tunnelAudit(name));
  if (log.isPending) return <Loading label="Loading the audit log" />;
  if (log.isError) return <ProblemAlert error={log.error} onRetry={() => void log.refetch()} />;
  return (
    <Stack>
      <AuditRows entries={log.data.pages.flatMap((page) => page.items)} />
      {log.hasNextPage && (
        <Group>
          <Button
            variant="default"
            loading={log.isFetchingNextPage}
            onClick={() => void log.fetchNextPage()}
          >
            Look further back
          </Button>
        </Group>
      )}
    </Stack>
  );
}
