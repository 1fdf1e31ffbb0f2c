import { expect, test } from "vitest";
import { unsaved } from "./version";

test("what is typed during a save is kept, on top of what was saved", () => {
  const sent = { name: "ann" };
  expect(unsaved({ value: sent, etag: "1" }, sent)).toBeUndefined();
  expect(unsaved({ value: { name: "anna" }, etag: "1" }, sent)).toEqual({
    value: { name: "anna" },
  });
  expect(unsaved({ value: "depot", etag: "1" }, "depot")).toBeUndefined();
  expect(unsaved(undefined, "discarded meanwhile")).toBeUndefined();
});
