/** A tunnel's health over time, made from its changes. */
import type { Schemas } from "@/api/client";
import type { HealthWord } from "@/parts/Health";

type Change = Pick<Schemas["HealthView"], "health" | "since" | "reason">;

export type Segment = {
  readonly health: HealthWord;
  readonly reason: string;
  readonly from: number;
  readonly until: number;
};

/**
 * Segments from `from` to `now`, oldest first. Before its first change a tunnel was inactive since it
 * was made; before that there is none.
 */
export function segments(
  changes: readonly Change[],
  createdAt: string,
  from: number,
  now: number,
): Segment[] {
  const first: Change = { health: "Inactive", since: createdAt, reason: "No connector yet" };
  const ordered = [first, ...[...changes].reverse()];
  return ordered.flatMap((change, index) => {
    const next = ordered[index + 1];
    const start = Math.max(from, Date.parse(change.since));
    const until = Math.min(now, next ? Date.parse(next.since) : now);
    if (until <= start) return [];
    return [{ health: change.health, reason: change.reason, from: start, until }];
  });
}

/** The share of the time in which requests could be served, of the time in which a connector ever was. */
export function servedShare(all: readonly Segment[]): number | undefined {
  const length = (segment: Segment) => segment.until - segment.from;
  const sum = (some: readonly Segment[]) => some.reduce((total, each) => total + length(each), 0);
  const counted = all.filter(({ health }) => health !== "Inactive");
  const total = sum(counted);
  if (total === 0) return undefined;
  return sum(counted.filter(({ health }) => health !== "Down")) / total;
}
