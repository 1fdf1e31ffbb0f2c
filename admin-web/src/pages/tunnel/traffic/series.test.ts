import { expect, test } from "vitest";
import { bars, percentile, refusals } from "./series";

const BOUNDS = [1, 2, 5];

const step = (at: string, answered: number, refused: Record<string, number> = {}) => ({
  at,
  answered,
  client_gone: 1,
  refused,
  bytes_up: 10,
  bytes_down: 20,
  latency: [0, answered, 0, 0],
});

const traffic = {
  step_s: 60,
  from: "2026-01-01T00:00:00Z",
  to: "2026-01-01T02:00:00Z",
  latency_bounds_ms: BOUNDS,
  steps: [
    step("2026-01-01T00:00:00Z", 3),
    step("2026-01-01T00:01:00Z", 4, { no_link: 2, access_denied: 1 }),
    step("2026-01-01T01:59:00Z", 5, { access_denied: 4 }),
  ],
};

test("steps become bars of equal length without gaps", () => {
  const all = bars(traffic);
  expect(all.length).toBe(60);
  expect(all[0]).toMatchObject({ answered: 9, refused: 3, bytesUp: 20, bytesDown: 40 });
  expect(all[1]).toMatchObject({ answered: 0, refused: 0 });
  expect(all[1]?.p50).toBeUndefined();
  expect(all[59]).toMatchObject({ answered: 6, refused: 4 });
  expect(all[59]?.at.toISOString()).toBe("2026-01-01T01:58:00.000Z");
});

test("refusals are counted by their code", () => {
  expect(refusals(traffic)).toEqual([
    ["access_denied", 5],
    ["no_link", 2],
  ]);
});

test("a percentile lies within its class", () => {
  expect(percentile([0, 10, 0, 0], BOUNDS, 0.5)).toBe(1.5);
  expect(percentile([10, 0, 0, 10], BOUNDS, 0.5)).toBe(1);
  expect(percentile([10, 0, 0, 10], BOUNDS, 0.95)).toBe(5);
  expect(percentile([0, 0, 0, 0], BOUNDS, 0.5)).toBeUndefined();
});
