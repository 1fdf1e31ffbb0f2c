/** A small chart of bars or lines; what it shows is said in words as well. */
import { Box, Group, Text } from "@mantine/core";

type Series = {
  readonly label: string;
  readonly color: string;
  readonly values: readonly number[];
};

const WIDTH = 300;
const HEIGHT = 80;

export function Chart({
  title,
  from,
  series,
  format,
  stacked = false,
}: {
  title: string;
  /** When the first bar begins, in words. */
  from: string;
  series: readonly Series[];
  format: (value: number) => string;
  /** Are the series parts of a whole? Otherwise each stands before the one after it. */
  stacked?: boolean;
}) {
  const length = Math.max(...series.map(({ values }) => values.length));
  const sums = Array.from({ length }, (_, n) => {
    const values = series.map((each) => each.values[n] ?? 0);
    return stacked ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values);
  });
  const top = Math.max(...sums, 0);
  const bar = WIDTH / Math.max(length, 1);
  const height = (value: number) => (top === 0 ? 0 : (value / top) * HEIGHT);
  const spoken = series.map(({ label, values }) => `${label} ${format(Math.max(...values, 0))}`);
  return (
    <Box component="figure" m={0}>
      <Group justify="space-between" gap="xs" wrap="nowrap">
        <Text component="figcaption" size="sm" fw={600}>
          {title}
        </Text>
        <Text size="xs" c="dimmed">
          up to {format(top)}
        </Text>
      </Group>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        className="chart"
        role="img"
        aria-label={`${title}: at most ${spoken.join(", ")}`}
      >
        {series.map(({ label, color, values }, which) => {
          const below = stacked ? series.slice(0, which) : [];
          const rectangle = (value: number, n: number) => {
            const under = below.reduce((sum, each) => sum + (each.values[n] ?? 0), 0);
            const [tall, wide] = [height(value), Math.max(bar - 1, 0.5)];
            return tall > 0
              ? `M${n * bar} ${HEIGHT - height(under)}v${-tall}h${wide}v${tall}z`
              : "";
          };
          return <path key={label} fill={color} d={values.map(rectangle).join("")} />;
        })}
      </svg>
      <Group justify="space-between" gap="xs" mb={4} aria-hidden>
        <Text size="xs" c="dimmed">
          {from}
        </Text>
        <Text size="xs" c="dimmed">
          now
        </Text>
      </Group>
      <Group gap="md">
        {series.map(({ label, color }) => (
          <Group key={label} gap={6} wrap="nowrap">
            <svg viewBox="0 0 1 1" className="dot-key" aria-hidden>
              <rect width="1" height="1" fill={color} />
            </svg>
            <Text size="xs" c="dimmed">
              {label}
            </Text>
          </Group>
        ))}
      </Group>
    </Box>
  );
}
