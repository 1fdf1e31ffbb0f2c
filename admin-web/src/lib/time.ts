/** Times, as people read them. */

const UNITS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1_000],
];

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const exact = new Intl.DateTimeFormat("en-GB", {
  dateStyle: "medium",
  timeStyle: "long",
});

/** `3 minutes ago`, `in 2 hours`, `now`. */
export function relativeTime(at: Date, now: Date): string {
  const distance = at.getTime() - now.getTime();
  for (const [unit, length] of UNITS) {
    if (Math.abs(distance) >= length) {
      return relative.format(Math.trunc(distance / length), unit);
    }
  }
  return "now";
}

/** Date and time to the second in the reader's zone, with the zone's name. */
export function exactTime(at: Date): string {
  return exact.format(at);
}

/** A length of time in two units at most: `3 d 4 h`, `12 min`, `7 s`. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const parts: readonly (readonly [number, string])[] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

/** Microseconds with a unit that fits: `850 µs`, `12.3 ms`, `1.50 s`. */
export function microseconds(value: number): string {
  if (value < 1_000) return `${Math.round(value)} µs`;
  if (value < 1_000_000) return `${(value / 1_000).toFixed(value < 100_000 ? 1 : 0)} ms`;
  return `${(value / 1_000_000).toFixed(2)} s`;
}
