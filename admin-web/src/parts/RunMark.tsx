/** How far a run has come: a word, a shape and a colour. */
import { Group, Text } from "@mantine/core";
import type { Schemas } from "@/api/client";

type Status = Schemas["RunView"]["status"];

const WORDS = {
  queued: ["Queued", "var(--postern-inactive)", "○"],
  running: ["Running", "var(--mantine-color-anchor)", "◐"],
  succeeded: ["Succeeded", "var(--postern-healthy)", "●"],
  failed: ["Failed", "var(--postern-down)", "■"],
  interrupted: ["Interrupted", "var(--postern-degraded)", "▲"],
} as const satisfies Record<Status, readonly [string, string, string]>;

export function RunMark({ status }: { status: Status }) {
  const [word, color, shape] = WORDS[status];
  return (
    <Group gap={8} wrap="nowrap" component="span" display="inline-flex">
      <span aria-hidden="true" style={{ color }}>
        {shape}
      </span>
      <Text span fw={600} size="sm" c="var(--mantine-color-text)">
        {word}
      </Text>
    </Group>
  );
}
