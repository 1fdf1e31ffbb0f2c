import { Code, Stack, Table, Text } from "@mantine/core";
import type { Schemas } from "@/api/client";
import { Scroll } from "@/ui/Scroll";
import { When } from "@/ui/When";

type Entry = Schemas["AuditEntry"];

/** Entries of the audit log, a row each, with what is particular about them. */
export function AuditTable({ entries }: { entries: readonly Entry[] }) {
  return (
    <Scroll label="Audit log">
      <Table verticalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            <Table.Th ta="right">No.</Table.Th>
            <Table.Th>When</Table.Th>
            <Table.Th>Who</Table.Th>
            <Table.Th>What</Table.Th>
            <Table.Th>To what</Table.Th>
            <Table.Th>Particulars</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {entries.map((entry) => (
            <Table.Tr key={entry.sequence}>
              <Table.Td ta="right">{entry.sequence}</Table.Td>
              <Table.Td>
                <When at={entry.at} />
              </Table.Td>
              <Table.Td className="nowrap">{actor(entry.actor)}</Table.Td>
              <Table.Td className="nowrap">
                <code>{entry.action}</code>
              </Table.Td>
              <Table.Td className="wrap-anywhere">{entry.subject}</Table.Td>
              <Table.Td>
                <Detail detail={entry.detail} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Scroll>
  );
}

function Detail({ detail }: { detail: unknown }) {
  if (detail == null) return <Text size="sm">–</Text>;
  return (
    <details>
      <summary>Show</summary>
      <Stack mt="xs">
        <Code block>{JSON.stringify(detail, undefined, 2)}</Code>
      </Stack>
    </details>
  );
}

/** Whoever did it: an e-mail address, an edge's address, or the deployment. */
export function actor(actor: unknown): string {
  if (typeof actor !== "object" || actor === null) return "unknown";
  if ("email" in actor && typeof actor.email === "string") return actor.email;
  if ("address" in actor && typeof actor.address === "string") return `edge at ${actor.address}`;
  return "the deployment";
}
