import { expect, test } from "vitest";
import { faults, isFaultless, newAction, toAction, toDraft } from "./draft";

const ACTION = {
  type: "http",
  name: "read",
  method: "POST",
  url: "http://wiki.corp/",
  headers: { Accept: "text/html" },
  payload: { a: [1, true] },
  content_type: "json",
  timeout: 12,
  response_limit: 1000,
  use_tunnel: "office",
} as const;

test("an action survives its form", () => {
  expect(toAction(toDraft({ ...ACTION, payload: { a: [1, true] } }))).toEqual(ACTION);
  for (const [payload, content_type] of [
    ["a,b", "text/csv"],
    ["<a/>", "xml"],
    ["x=1", "form"],
  ]) {
    const action = { ...ACTION, payload, content_type };
    expect(toAction(toDraft(action))).toEqual(action);
  }
});

test("an action without a body has none after its form either", () => {
  const { payload: _, content_type: __, ...plain } = ACTION;
  expect(toAction(toDraft(plain))).toEqual(plain);
});

test("what is wrong is said at its field", () => {
  const fine = { ...newAction(1), url: "https://wiki.corp/" };
  expect(isFaultless(faults(fine))).toBe(true);
  expect(faults({ ...fine, url: "wiki.corp" }).url).toBe("Begin with http:// or https://");
  expect(faults({ ...fine, url: "http://me:secret@wiki.corp/" }).url).toContain("Authorization");
  expect(faults({ ...fine, contentType: "json", body: "{" }).body).toBe("This is not valid JSON");
  expect(faults({ ...fine, usesTunnel: true }).tunnel).toBe("Choose a tunnel");
  expect(faults({ ...fine, timeout: 301 }).timeout).toBe("1 to 300 seconds");
  expect(faults({ ...fine, method: "CONNECT" }).method).toBeDefined();
});
