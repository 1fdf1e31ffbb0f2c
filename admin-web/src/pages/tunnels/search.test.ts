import { expect, test } from "vitest";
import type { Schemas } from "@/api/client";
import { fitting, listSearch, regions } from "./search";

function tunnel(
  name: string,
  change: Partial<Schemas["TunnelSummary"]> = {},
): Schemas["TunnelSummary"] {
  return {
    id: name,
    name,
    display_name: name.toUpperCase(),
    access: { mode: "any_team" },
    health: { health: "Healthy", reason: "", causes: [], since: "2026-01-01T00:00:00Z" },
    created_at: "2026-01-01T00:00:00Z",
    updated_at: "2026-01-01T00:00:00Z",
    etag: '"1"',
    connectors: 1,
    missing_connectors: 0,
    links: [{ connector: "c", slot: 0, region: "eu", edge: "e", transport: "quic" }],
    ...change,
  };
}

const DOWN = {
  health: "Down" as const,
  reason: "",
  causes: [],
  since: "2026-01-01T00:00:00Z",
};
const ALL = [
  tunnel("lab", { access: { mode: "teams", teams: ["a"] } }),
  tunnel("office", { health: DOWN, links: [] }),
  tunnel("archive"),
];
const names = (search: Parameters<typeof fitting>[1]) =>
  fitting(ALL, search).map(({ name }) => name);

test("what is broken comes first, then by name", () => {
  expect(names({})).toEqual(["office", "archive", "lab"]);
});

test("search and filters narrow the list together", () => {
  expect(names({ q: "OFF" })).toEqual(["office"]);
  expect(names({ health: "Healthy", q: "a" })).toEqual(["archive", "lab"]);
  expect(names({ region: "eu" })).toEqual(["archive", "lab"]);
  expect(names({ team: "b" })).toEqual(["office", "archive"]);
  expect(regions(ALL)).toEqual(["eu"]);
});

test("a URL with nonsense shows the whole list", () => {
  expect(listSearch({ health: "Fine", q: 5, region: "" })).toEqual({
    q: undefined,
    health: undefined,
    region: undefined,
    team: undefined,
  });
});
