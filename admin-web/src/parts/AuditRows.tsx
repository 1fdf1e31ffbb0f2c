/** Entries of the audit log, a row each, with what is particular about them. */
import { Code, Text } from "@mantine/core";
import type { Schemas } from "@/api/client";
import { type Column, Dim, Rows } from "@/ui/Rows";
import { When } from "@/ui/When";

type Entry = Schemas["AuditEntry"];

const COLUMNS: readonly Column<Entry>[] = [
  {
    label: "When",
    cell: ({ at, sequence }) => (
      <>
        <When at={at} />
        <Text size="xs" c="dimmed">
          No. {sequence}
        </Text>
      </>
    ),
  },
  { label: "Who", cell: (entry) => <Text size="sm">{actor(entry.actor)}</Text> },
  { label: "What", cell: ({ action }) => <code>{action}</code> },
  { label: "To what", cell: ({ subject }) => <Dim>{subject}</Dim> },
  { label: "Particulars", cell: ({ detail }) => <Detail detail={detail} /> },
];

export function AuditRows({ entries }: { entries: readonly Entry[] }) {
  return (
    <Rows
      label="Audit log"
      kind="audit"
      columns={COLUMNS}
      items={entries}
      itemKey={({ sequence }) => String(sequence)}
    />
  );
}

function Detail({ detail }: { detail: unknown }) {
  if (detail == null) return <Dim>–</Dim>;
  return (
    <details>
      <summary>Show</summary>
      <Code block mt="xs">
        {JSON.stringify(detail, undefined, 2)}
      </Code>
    </details>
  );
}

/** Whoever did it: an e-mail address, an edge's address, that of somebody who could not come in, or the deployment. */
export function actor(actor: unknown): string {
  if (typeof actor !== "object" || actor === null) return "unknown";
  if ("email" in actor && typeof actor.email === "string") return actor.email;
  if ("address" in actor && typeof actor.address === "string") {
    const who = "kind" in actor && actor.kind === "stranger" ? "somebody" : "edge";
    return `${who} at ${actor.address}`;
  }
  return "the deployment";
}
