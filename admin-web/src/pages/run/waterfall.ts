/** Where on the way each phase was, as shares of the whole time. */
const LABELS: Record<string, string> = {
  policy: "Policy",
  edge: "Edge",
  link: "Link",
  dns: "DNS",
  tcp: "TCP",
  tls: "TLS",
  first_byte: "First byte",
  body: "Body",
};

export type Bar = {
  readonly phase: string;
  readonly label: string;
  readonly microseconds: number;
  readonly start: number;
  readonly width: number;
};

/** Phases follow one another; what is left of the whole time is at the end. */
export function bars(
  phases: readonly { phase: string; microseconds: number }[],
  total: number,
): Bar[] {
  const sum = phases.reduce((all, { microseconds }) => all + microseconds, 0);
  const whole = Math.max(total, sum, 1);
  let start = 0;
  return phases.map(({ phase, microseconds }) => {
    const bar = {
      phase,
      label: LABELS[phase] ?? phase,
      microseconds,
      start: start / whole,
      width: microseconds / whole,
    };
    start += microseconds;
    return bar;
  });
}
