import { expect, test } from "vitest";
import { concerned } from "./concerned";

test("an event leads to what it concerns, and to nothing else", () => {
  expect(concerned("presence", { tunnels: ["office"] })).toContainEqual(["tunnel", "office"]);
  expect(concerned("presence", { tunnels: ["office"] })).not.toContainEqual(["tunnel", "lab"]);
  const access = { action: "tunnel.access", subject: "office" };
  expect(concerned("change", access)).toContainEqual(["tunnels"]);
  expect(concerned("change", access)).toContainEqual(["audit"]);
  expect(concerned("change", access)).not.toContainEqual(["workflows"]);
  expect(concerned("run", { workflow: "w", run: "r" })).toEqual([
    ["runs", "w"],
    ["run", "r"],
  ]);
  const gone = concerned("change", { action: "team.delete", subject: "t" });
  for (const key of ["teams", "proxy-tokens", "tunnels", "tunnel"]) {
    expect(gone).toContainEqual([key]);
  }
  expect(concerned("change", { action: "team.create", subject: "t" })).not.toContainEqual([
    "tunnels",
  ]);
  expect(concerned("change", { action: "workflow.delete", subject: "w" })).toContainEqual([
    "proxy-tokens",
  ]);
  for (const action of ["session.fail", "api_key.fail", "one_time_link.fail"]) {
    expect(concerned("change", { action, subject: "" })).toEqual([["audit"]]);
  }
  expect(concerned("alive", {})).toEqual([]);
});

test("what is not understood leads to everything", () => {
  expect(concerned("resync", null)).toBe("all");
  expect(concerned("change", { action: "route.create", subject: "x" })).toBe("all");
  expect(concerned("change", "nonsense")).toBe("all");
});
