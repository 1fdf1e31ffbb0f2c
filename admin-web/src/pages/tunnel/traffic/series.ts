/** Traffic as charts show it: bars of equal length, without gaps. */
import type { Schemas } from "@/api/client";

type Traffic = Schemas["TrafficView"];
type Step = Traffic["steps"][number];

export type Bar = {
  /** When it begins. */
  readonly at: Date;
  readonly answered: number;
  readonly refused: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
  /** How long answers took to begin, in milliseconds: half of them, and 95 of 100. */
  readonly p50?: number;
  readonly p95?: number;
};

/** More would be thinner than can be told apart. */
const MOST_BARS = 60;

export function bars(traffic: Traffic): Bar[] {
  const from = Date.parse(traffic.from) / 1000;
  const steps = Math.round((Date.parse(traffic.to) / 1000 - from) / traffic.step_s);
  const perBar = Math.max(1, Math.ceil(steps / MOST_BARS));
  const nth = (step: Step) =>
    Math.floor((Date.parse(step.at) / 1000 - from) / traffic.step_s / perBar);
  return Array.from({ length: Math.ceil(steps / perBar) }, (_, n) => {
    const own = traffic.steps.filter((step) => nth(step) === n);
    const sum = (of: (step: Step) => number) => own.reduce((all, step) => all + of(step), 0);
    const latency = traffic.latency_bounds_ms
      .concat(Number.POSITIVE_INFINITY)
      .map((_, at) => sum((step) => step.latency[at] ?? 0));
    return {
      at: new Date((from + n * perBar * traffic.step_s) * 1000),
      answered: sum((step) => step.answered + step.client_gone),
      refused: sum((step) => total(step.refused)),
      bytesUp: sum((step) => step.bytes_up),
      bytesDown: sum((step) => step.bytes_down),
      p50: percentile(latency, traffic.latency_bounds_ms, 0.5),
      p95: percentile(latency, traffic.latency_bounds_ms, 0.95),
    };
  });
}

/** Refusals by their code, the most frequent first. */
export function refusals(traffic: Traffic): [code: string, count: number][] {
  const codes = new Map<string, number>();
  for (const step of traffic.steps) {
    for (const [code, number] of Object.entries(step.refused)) {
      codes.set(code, (codes.get(code) ?? 0) + number);
    }
  }
  return [...codes].sort(([a, more], [b, fewer]) => fewer - more || a.localeCompare(b));
}

/**
 * The latency that a share of all answers does not exceed, by the bounds of its class: within a class,
 * answers count as evenly spread. Above the last bound nothing is known but that bound.
 */
export function percentile(
  classes: readonly number[],
  bounds: readonly number[],
  share: number,
): number | undefined {
  const all = classes.reduce((sum, each) => sum + each, 0);
  if (all === 0) return undefined;
  let left = all * share;
  for (const [at, number] of classes.entries()) {
    const upper = bounds[at];
    const lower = at === 0 ? 0 : (bounds[at - 1] ?? 0);
    if (upper === undefined) return lower;
    if (left <= number) return lower + ((upper - lower) * left) / number;
    left -= number;
  }
  return bounds.at(-1);
}

function total(counts: Record<string, number>): number {
  return Object.values(counts).reduce((sum, each) => sum + each, 0);
}
