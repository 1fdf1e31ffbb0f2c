import { expect, test } from "vitest";
import { browser, bytes, count, slug } from "./text";
import { duration, microseconds, relativeTime } from "./time";

test("times are told in the unit that fits", () => {
  const now = new Date("2026-01-31T12:00:00Z");
  const cases = [
    ["2026-01-31T12:00:00Z", "now"],
    ["2026-01-31T11:59:18Z", "42 seconds ago"],
    ["2026-01-31T11:00:00Z", "1 hour ago"],
    ["2026-01-30T11:00:00Z", "yesterday"],
    ["2026-01-31T12:05:30Z", "in 5 minutes"],
  ] as const;
  for (const [at, words] of cases) expect(relativeTime(new Date(at), now)).toBe(words);
});

test("lengths of time have two units at most, and no empty one", () => {
  expect(duration(0)).toBe("0 s");
  expect(duration(7_900)).toBe("7 s");
  expect(duration(3_600_000)).toBe("1 h");
  expect(duration(3 * 86_400_000 + 4 * 3_600_000 + 59_000)).toBe("3 d 4 h");
});

test("round trips have a unit that fits", () => {
  expect(microseconds(850)).toBe("850 µs");
  expect(microseconds(12_340)).toBe("12.3 ms");
  expect(microseconds(1_500_000)).toBe("1.50 s");
});

test("bytes are told in binary units", () => {
  expect(bytes(512)).toBe("512 B");
  expect(bytes(1_536)).toBe("1.5 KiB");
  expect(bytes(4 * 1024 * 1024)).toBe("4.0 MiB");
});

test("numbers agree with their words", () => {
  expect(count(1, "link")).toBe("1 link");
  expect(count(1_200, "entry", "entries")).toBe("1,200 entries");
});

test("a tunnel's name is made from what people call it", () => {
  expect(slug("Büro Zürich, 2. Stock")).toBe("buro-zurich-2-stock");
  expect(slug("---")).toBe("");
  expect(slug(`a${"-b".repeat(80)}`)).toMatch(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])$/);
});

test("a browser is told by name and system", () => {
  const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
  expect(browser(firefox)).toBe("Firefox on Linux");
  expect(browser("my-script/1.0")).toBe("my-script/1.0");
  expect(browser("")).toBe("Unknown program");
});
