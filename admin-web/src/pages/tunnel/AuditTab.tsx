/** What was changed of the tunnel, by whom. */
import { Stack } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { tunnelAudit } from "@/api/queries";
import { AuditRows } from "@/parts/AuditRows";
import { Further } from "@/ui/Further";
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
      <Further list={log} />
    </Stack>
  );
}
