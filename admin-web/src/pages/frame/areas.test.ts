import { expect, test, vi } from "vitest";
import type { Me } from "@/api/queries";

vi.stubGlobal("location", { origin: "https://postern.example" });
const { areas } = await import("./areas");

const MEMBER: Me = {
  id: "u",
  email: "a@example.com",
  name: "Ann",
  tenant: "t",
  teams: [],
  permissions: [],
  is_owner: false,
  is_operator: false,
};
const shown = (change: Partial<Me>) => areas({ ...MEMBER, ...change }).map(({ label }) => label);

test("the menu holds what the user may see, and nothing else", () => {
  const everybodys = ["Workflows", "Proxy tokens", "Teams", "API keys", "Your account", "About"];
  expect(shown({})).toEqual(everybodys);
  const managers = shown({ permissions: ["TUNNEL_MANAGE"] });
  expect(managers.filter((label) => !everybodys.includes(label))).toEqual(["Tunnels", "Edges"]);
  const owners = shown({ is_owner: true });
  expect(owners.filter((label) => !everybodys.includes(label))).toEqual([
    "Tunnels",
    "Users",
    "Edges",
    "Audit",
  ]);
});
