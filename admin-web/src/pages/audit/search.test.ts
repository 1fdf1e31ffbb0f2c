import { expect, test } from "vitest";
import { auditFilter, auditSearch } from "./search";

test("days of the URL are whole days here, the last one included", () => {
  const filter = auditFilter({ from: "2026-03-01", until: "2026-03-01", actor: "ann" });
  const [from, until] = [new Date(filter.from ?? ""), new Date(filter.until ?? "")];
  expect(filter.actor).toBe("ann");
  expect([from.getFullYear(), from.getMonth(), from.getDate(), from.getHours()]).toEqual([
    2026, 2, 1, 0,
  ]);
  expect([until.getMonth(), until.getDate(), until.getHours()]).toEqual([2, 2, 0]);
});

test("a URL with nonsense shows the whole log", () => {
  expect(Object.values(auditSearch({ from: "yesterday", until: "2026-99-99", actor: {} }))).toEqual(
    [undefined, undefined, undefined, undefined, undefined],
  );
});
