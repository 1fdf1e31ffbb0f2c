import { expect, test } from "vitest";
import { segments, servedShare } from "./timeline";

const at = (minutes: number) => new Date(minutes * 60_000).toISOString();
const time = (minutes: number) => minutes * 60_000;
const CHANGES = [
  { health: "Down", since: at(50), reason: "lost" },
  { health: "Healthy", since: at(20), reason: "all links" },
] as const;

test("segments cover the range without a gap, oldest first", () => {
  const all = segments(CHANGES, at(10), time(0), time(60));
  expect(all.map(({ health, from, until }) => [health, from, until])).toEqual([
    ["Inactive", time(10), time(20)],
    ["Healthy", time(20), time(50)],
    ["Down", time(50), time(60)],
  ]);
});

test("what was before the range is cut", () => {
  const all = segments(CHANGES, at(10), time(55), time(60));
  expect(all).toHaveLength(1);
  expect(all[0]).toMatchObject({ health: "Down", from: time(55), until: time(60) });
});

test("the served share counts from the first connector on", () => {
  const share = servedShare(segments(CHANGES, at(10), time(0), time(60)));
  expect(share).toBeCloseTo(0.75);
  expect(servedShare(segments([], at(10), time(0), time(60)))).toBeUndefined();
});
