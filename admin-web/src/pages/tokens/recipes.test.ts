import { expect, test } from "vitest";
import { TOKEN_RECIPES, type Way } from "./recipes";

const WAY: Way = {
  token: "ppt1_secret",
  tunnel: "office",
  gateway: "edge.example:3128",
  isTls: false,
  url: "http://wiki.corp/it's?a=1&b=2",
};
const recipe = (id: string, way: Way = WAY) =>
  TOKEN_RECIPES.find((each) => each.id === id)?.text(way) ?? "";

test("each recipe holds the token, and the gateway's real address", () => {
  for (const { id } of TOKEN_RECIPES) {
    expect(recipe(id), id).toContain("ppt1_secret");
    expect(recipe(id), id).toContain("edge.example");
    expect(recipe(id), id).toContain("3128");
  }
});

test("what a shell would read in another way is quoted", () => {
  expect(recipe("curl")).toContain(String.raw`'http://wiki.corp/it'\''s?a=1&b=2'`);
  expect(recipe("requests")).toContain(`requests.get("http://wiki.corp/it's?a=1&b=2"`);
});

test("an address of IPv6 is told to Node without its brackets", () => {
  expect(recipe("node", { ...WAY, gateway: "[2001:db8::1]:3128" })).toContain(
    'host: "2001:db8::1"',
  );
  expect(recipe("node", { ...WAY, gateway: "edge.example:80" })).toContain("port: 80,");
});

test("a gateway that speaks TLS is a proxy of that kind", () => {
  const way = { ...WAY, isTls: true };
  expect(recipe("curl", way)).toContain("-x https://edge.example:3128");
  expect(recipe("node", way)).toContain('from "node:https"');
  expect(recipe("httpx", way)).toContain('proxy = "https://office:');
  expect(recipe("httpx")).toContain('proxy = "http://office:');
});

test("an authority that programs do not know is named to each", () => {
  const way = { ...WAY, isTls: true, ca: "ca.crt" };
  for (const { id } of TOKEN_RECIPES.filter((each) => each.id !== "n8n")) {
    expect(recipe(id, way), id).toContain("ca.crt");
    expect(recipe(id), id).not.toContain("ca.crt");
  }
});
