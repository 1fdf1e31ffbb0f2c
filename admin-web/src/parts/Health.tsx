/** A tunnel's health: a word, a shape and a colour. Each is enough alone. */
import { Group, Text } from "@mantine/core";
import type { Schemas } from "@/api/client";

export type HealthWord = Schemas["HealthView"]["health"];
export const HEALTH_WORDS = [
  "Healthy",
  "Degraded",
  "Down",
  "Inactive",
] as const satisfies HealthWord[];

const SHAPES = {
  Healthy: <circle cx="8" cy="8" r="6" />,
  Degraded: <path d="M8 1.5 15 14H1z" />,
  Down: <path d="M3 3h10v10H3z" />,
  Inactive: <circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" strokeWidth="2.5" />,
} as const satisfies Record<HealthWord, React.ReactNode>;

export const healthColor = (health: HealthWord) => `var(--postern-${health.toLowerCase()})`;

export function HealthMark({ health }: { health: HealthWord }) {
  return (
    <Group gap={8} wrap="nowrap" component="span" display="inline-flex">
      <svg
        viewBox="0 0 16 16"
        width="14"
        height="14"
        aria-hidden="true"
        fill="currentColor"
        style={{ color: healthColor(health) }}
      >
        {SHAPES[health]}
      </svg>
      <Text span fw={600} size="sm">
        {health}
      </Text>
    </Group>
  );
}
