/** The journeys of owners and members: teams, users, tokens, keys, edges, the audit log. */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { conflict, launch, Visitor } from "./browser";
import {
  Api,
  authority,
  base,
  OWNER,
  origin,
  paste,
  startConnector,
  stopConnectors,
} from "./world";

const ANN = { email: "ann@example.com", password: "ann's first password" };

let browser: Browser;
let api: Api;
let connector: ChildProcess;
let owner: Visitor;
let page: Page;

beforeAll(async () => {
  api = await Api.asOwner();
  const tunnel = await api.call("POST", "/api/v1/admin/tunnel", { name: "depot" });
  connector = startConnector(
    `TUNNEL_LOGLEVEL_FROM_CLOUD=true TUNNEL_SECRET='${tunnel.secret}' ./target/release/postern-connector`,
  );
  browser = await launch();
  owner = await Visitor.come(browser, base);
  page = owner.page;
  await signIn(owner, OWNER);
});

afterEach(() => owner.assertNoFault());

afterAll(async () => {
  stopConnectors();
  await browser?.close();
});

const heading = (name: string) => page.getByRole("heading", { name, exact: true, level: 1 });
const button = (name: string) => page.getByRole("button", { name, exact: true });
const link = (name: string) => page.getByRole("link", { name, exact: true });
const dialog = (name: string) => page.getByRole("dialog", { name, exact: true });
const row = (list: string, text: string) =>
  page
    .getByRole("list", { name: list, exact: true })
    .getByRole("listitem")
    .filter({ hasText: text });
const area = (name: string) =>
  page.getByRole("navigation", { name: "Areas" }).getByRole("link", { name, exact: true }).click();

async function signIn({ page }: Visitor, { email, password }: typeof OWNER) {
  await page.goto("/login");
  await page.getByLabel("E-mail address").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.keyboard.press("Enter");
  await page.getByRole("navigation", { name: "Areas" }).waitFor();
}

test("a team is made, and a name that is taken is refused beside the field", async () => {
  await area("Teams");
  await heading("Teams").waitFor();
  await page.getByRole("button", { name: /^Create (a|the first) team$/ }).click();
  const create = dialog("Create a team");
  await create.getByRole("button", { name: "Create the team", exact: true }).click();
  await create.getByText("Give the team a name").waitFor();
  await create.getByLabel("Name", { exact: true }).fill("Depot staff");
  await create.getByText("As API call").click();
  const call = create.getByRole("region", { name: "API call", exact: true });
  expect(await call.textContent()).toContain(`-d '{"name":"Depot staff"}'`);
  await owner.inspect("team-new");
  await create.getByRole("button", { name: "Create the team", exact: true }).click();
  await heading("Depot staff").waitFor();

  owner.expectProblem("/api/v1/teams");
  await area("Teams");
  await button("Create a team").click();
  await create.getByLabel("Name", { exact: true }).fill("Depot staff");
  await create.getByRole("button", { name: "Create the team", exact: true }).click();
  await create.getByText(/There is one of that name already.*Code conflict, request /).waitFor();
  await page.keyboard.press("Escape");
  await create.waitFor({ state: "hidden" });
  await row("Teams", "Depot staff").getByText("0 members").waitFor();
  await owner.inspect("teams");
  // A phone has no room for the heads of columns: each value bears its label.
  const label = row("Teams", "Depot staff").getByText("Members", { exact: true });
  const width = async () => (await label.boundingBox())?.width ?? 0;
  expect(await width()).toBeLessThan(2);
  await page.setViewportSize({ width: 360, height: 900 });
  expect(await width()).toBeGreaterThan(20);
  await page.setViewportSize({ width: 1440, height: 900 });
});

test("the wizard tells a refusal beside the field that it is about", async () => {
  owner.expectProblem("/api/v1/admin/tunnel");
  await page.goto("/admin/tunnel/new");
  const name = page.getByRole("textbox", { name: "Name", exact: true });
  await name.fill("depot");
  await button("Next").click();
  await button("Next").click();
  await page.getByText("As API call").click();
  const call = page.getByRole("region", { name: "API call", exact: true });
  expect(await call.textContent()).toContain('"name":"depot"');
  await button("Create the tunnel").click();
  await page.getByText(/There is one of that name already.*Code conflict, request /).waitFor();
  expect(await name.inputValue()).toBe("depot");
  await owner.inspect("wizard-refused");
  await name.fill("depot-2");
  expect(await page.getByText(/Code conflict/).count()).toBe(0);
});

test("a user is added with what they may do", async () => {
  await area("Users");
  await row("Users", OWNER.email).getByText("Owner", { exact: true }).waitFor();
  await button("Add a user").click();
  const add = dialog("Add a user");
  await add.getByLabel("E-mail address").fill("nobody");
  await add.getByRole("button", { name: "Add the user", exact: true }).click();
  await add.getByText("Enter an e-mail address").waitFor();
  await add.getByText("At least 8 characters", { exact: true }).waitFor();
  owner.expectProblem("/api/v1/users");
  await add.getByLabel("E-mail address").fill(OWNER.email);
  await add.getByLabel("First password", { exact: true }).fill(ANN.password);
  await add.getByRole("button", { name: "Add the user", exact: true }).click();
  await add.getByText(/Code conflict, request /).waitFor();
  await add.getByLabel("E-mail address").fill(ANN.email);
  await owner.inspect("user-new");
  await add.getByRole("button", { name: "Add the user", exact: true }).click();
  await heading(ANN.email).waitFor();
  await page.getByText("In no team.").waitFor();
  await page.getByRole("checkbox", { name: "Manages tunnels", exact: true }).check();
  await page
    .getByRole("form", { name: "Particulars" })
    .getByRole("button", { name: "Save", exact: true })
    .click();
  await page.getByText("Saved.").waitFor();
  await owner.inspect("user");
  await area("Users");
  await row("Users", ANN.email).getByText("Manages tunnels", { exact: true }).waitFor();
  await owner.inspect("users");
});

test("a member is added; what the team owns and may use is told", async () => {
  await area("Teams");
  await link("Depot staff").click();
  await page.getByRole("combobox", { name: "Add a member", exact: true }).click();
  await page.getByRole("option", { name: ANN.email, exact: true }).click();
  await button("Add").click();
  await link(ANN.email).waitFor();
  await link("depot").waitFor();
  await link("0 workflows").waitFor();
  await owner.inspect("team");
});

test("a team is renamed and a user's particulars change, though another tab did so before", async () => {
  owner.expectProblem("/api/v1/teams/");
  owner.expectProblem("/api/v1/users/");
  const other = await owner.context.newPage();
  const name = (tab: Page) => tab.getByRole("textbox", { name: "Name", exact: true });
  await conflict(page, other, new URL(page.url()).pathname, {
    form: "Name",
    mine: (tab) => name(tab).fill("Depot people"),
    theirs: (tab) => name(tab).fill("Depot crew"),
  });
  await heading("Depot people").waitFor();
  await name(page).fill("Depot staff");
  await button("Save").click();
  await heading("Depot staff").waitFor();

  await link(ANN.email).click();
  await heading(ANN.email).waitFor();
  await conflict(page, other, new URL(page.url()).pathname, {
    form: "Particulars",
    mine: (tab) => name(tab).fill("Ann"),
    theirs: (tab) => name(tab).fill("Anna"),
  });
  await other.close();
  await heading("Ann").waitFor();
  const email = page.getByRole("textbox", { name: "E-mail address", exact: true });
  await email.fill(OWNER.email);
  await button("Save").click();
  await page.getByText(/There is one of that name already.*Code conflict, request /).waitFor();
  await email.fill(ANN.email);
  await page.getByRole("checkbox", { name: "Disabled", exact: true }).check();
  await button("Save").click();
  await page.getByText(/^Disabled\. Added/).waitFor();
  const shut = await Visitor.come(browser, base);
  shut.expectProblem("/api/v1/session");
  await shut.page.goto("/login");
  await shut.page.getByLabel("E-mail address").fill(ANN.email);
  await shut.page.getByLabel("Password", { exact: true }).fill(ANN.password);
  await shut.page.keyboard.press("Enter");
  await shut.page.getByRole("alert").waitFor();
  shut.assertNoFault();
  await shut.close();
  await page.getByRole("checkbox", { name: "Disabled", exact: true }).uncheck();
  await button("Save").click();
  await page.getByText(/^Added/).waitFor();
});

test("a member sees their areas and no others, and hears of changes without a reload", async () => {
  const ann = await Visitor.come(browser, base);
  const areas = ann.page.getByRole("navigation", { name: "Areas" }).getByRole("link");
  await signIn(ann, ANN);
  expect(await areas.allTextContents()).toEqual([
    "Tunnels",
    "Workflows",
    "Proxy tokens",
    "Teams",
    "Edges",
    "API keys",
    "Your account",
    "About",
  ]);
  await ann.page.goto("/users");
  await ann.page.getByText("You may not see users").waitFor();
  await ann.page.goto("/audit");
  await ann.page.getByText("You may not see the audit log").waitFor();
  await ann.page.goto("/edges");
  await ann.page.getByRole("list", { name: "Firewall table" }).waitFor();
  expect(await ann.page.getByRole("heading", { name: "Join tokens" }).count()).toBe(0);
  await ann.page.goto("/teams");
  const own = ann.page.getByRole("listitem").filter({ hasText: "Depot staff" });
  await own.getByText("1 member", { exact: true }).waitFor();
  const { items } = await api.call("GET", "/api/v1/teams");
  const team = items.find(({ name }: { name: string }) => name === "Depot staff");
  const users = (await api.call("GET", "/api/v1/users")).items;
  const self = users.find(({ email }: { email: string }) => email === OWNER.email);
  await api.call("PUT", `/api/v1/teams/${team.id}/members/${self.id}`);
  await own.getByText("2 members", { exact: true }).waitFor();
  ann.assertNoFault();
  await ann.close();
});

test("a proxy token's recipes work when pasted; a revoked one is refused", async () => {
  await area("Proxy tokens");
  await page.getByRole("link", { name: /^Create (a|the first) token$/ }).click();
  await heading("Create a proxy token").waitFor();
  await button("Create the token").click();
  await page.getByText("Say what the token is for").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("Stock script");
  await page.getByRole("textbox", { name: "Good for" }).fill("400");
  await page.getByRole("combobox", { name: "Team", exact: true }).click();
  await page.getByRole("option", { name: "Depot staff", exact: true }).click();
  await button("Create the token").click();
  await page.getByText("A whole number from 1 to 365").waitFor();
  await page.getByRole("textbox", { name: "Good for" }).fill("30");
  await owner.inspect("token-new");
  await button("Create the token").click();
  await heading("Token Stock script").waitFor();
  expect(await page.getByText(/ppt1_/).count(), "the token is masked").toBe(0);
  await page.getByRole("combobox", { name: "Tunnel", exact: true }).click();
  await page.getByRole("option", { name: "depot", exact: true }).click();
  await page.getByLabel("URL in the private network").fill(`${origin}/hello`);
  const file = page.waitForEvent("download");
  await button("Download ca.crt").click();
  expect(readFileSync(await (await file).path(), "utf8")).toBe(readFileSync(authority, "utf8"));
  await owner.inspect("token-recipes");
  await button("Show the token").click();
  await expect
    .poll(async () => (await api.call("GET", "/api/v1/admin/tunnel/depot")).health.health)
    .toBe("Healthy");
  let curl = "";
  for (const recipe of ["curl", "Environment", "Python requests", "Python httpx", "Node"]) {
    await page.getByRole("tab", { name: recipe, exact: true }).click();
    const code = page.getByRole("region", { name: `Recipe for ${recipe}`, exact: true });
    const command = (await code.textContent()) ?? "";
    expect(paste(command), recipe).toContain("hello from the private network");
    if (recipe === "curl") curl = command;
  }
  await button("I have kept the token").click();
  await row("Proxy tokens", "Stock script").getByRole("link", { name: "Depot staff" }).waitFor();
  await owner.inspect("tokens");
  await button("Revoke Stock script").click();
  await dialog("Revoke token Stock script").getByRole("textbox").fill("Stock script");
  await page.keyboard.press("Enter");
  await page.getByText(/2 edges obey it already/).waitFor();
  await page.getByText("No token fits").waitFor();
  await page.getByRole("checkbox", { name: "Also expired and revoked", exact: true }).check();
  await row("Proxy tokens", "Stock script").getByText("revoked", { exact: true }).waitFor();
  expect(new URL(page.url()).search).toBe("?state=all");
  expect(paste(curl)).toContain("bad_credentials");
});

test("an API key works from the command that is shown once, until it is revoked", async () => {
  await area("API keys");
  await button("Create a key").click();
  const create = dialog("Create an API key");
  await create.getByRole("button", { name: "Create the key", exact: true }).click();
  await create.getByText("Say what the key is for").waitFor();
  await create.getByLabel("Name", { exact: true }).fill("Nightly");
  await page.keyboard.press("Enter");
  await button("Show the key").click();
  const command =
    (await page.getByRole("region", { name: "Command", exact: true }).textContent()) ?? "";
  expect(paste(command)).toContain(OWNER.email);
  await button("Hide the key").click();
  await owner.inspect("keys");
  await button("I have kept the key").click();
  await button("Revoke Nightly").click();
  await dialog("Revoke key Nightly").getByRole("textbox").fill("Nightly");
  await page.keyboard.press("Enter");
  await page.getByText("No key fits").waitFor();
  expect(paste(command)).toContain("unauthenticated");
});

test("edges are listed with what firewalls must let out; an operator invites another", async () => {
  await area("Edges");
  await expect.poll(() => row("Edges", "Live").count()).toBe(2);
  expect(await row("Firewall table", "UDP").count()).toBe(2);
  await button("Make a join token").click();
  await button("Show the token").click();
  const command = page.getByRole("region", { name: "Command", exact: true });
  expect(await command.textContent()).toContain("POSTERN_JOIN_TOKEN=ptj1_");
  await button("Hide the token").click();
  await owner.inspect("edges");
  await button("I have kept the token").click();
  const tokens = page.getByRole("button", { name: /^Revoke join token/ });
  const before = await tokens.count();
  await tokens.first().click();
  await expect.poll(() => tokens.count()).toBe(before - 1);
});

test("a link is drained, another cut, the log level changed; a vanished connector is forgotten", async () => {
  const since = async (slot: number): Promise<string | undefined> => {
    const shown = await api.call("GET", "/api/v1/admin/tunnel/depot");
    const links: { slot: number; since: string }[] = shown.connectors[0]?.links ?? [];
    return links.length === 4 ? links.find((link) => link.slot === slot)?.since : undefined;
  };
  const isAnother = (slot: number, before: string | undefined) =>
    expect
      .poll(async () => {
        const now = await since(slot);
        return now !== undefined && now !== before;
      })
      .toBe(true);
  await page.goto("/admin/tunnel/depot/connectors");
  const level = page.getByRole("combobox", { name: "Log level", exact: true });
  expect(await level.inputValue()).toBe("info");
  await level.click();
  await page.getByRole("option", { name: "debug", exact: true }).click();
  await expect.poll(() => level.inputValue()).toBe("debug");
  const first = await since(0);
  await button("Drain slot 0").click();
  await isAnother(0, first);
  const second = await since(1);
  await button("Cut slot 1").click();
  await dialog("Cut the link in slot 1").getByRole("textbox").fill(hostname());
  await page.keyboard.press("Enter");
  await isAnother(1, second);
  connector.kill("SIGKILL");
  await page.getByText(/^Vanished/).waitFor();
  await owner.inspect("tunnel-connectors-vanished");
  await button(`Forget ${hostname()}`).click();
  await page.getByText("No connector", { exact: true }).waitFor();
});

test("the audit log is whole, and its filters stand in the URL", async () => {
  await area("Audit");
  await page.getByText("The log is whole").waitFor();
  await page.getByRole("combobox", { name: "What", exact: true }).click();
  await page.getByRole("option", { name: "Proxy tokens", exact: true }).click();
  await expect.poll(() => new URL(page.url()).search).toBe("?action=proxy_token");
  await row("Audit log", "proxy_token.revoke").first().waitFor();
  await expect.poll(() => row("Audit log", "team.").count()).toBe(0);
  await owner.inspect("audit");
  await page.getByRole("textbox", { name: "Who", exact: true }).fill("nobody");
  await page.getByText("No entry fits").waitFor();
  await button("Clear").click();
  await row("Audit log", "api_key.revoke").first().waitFor();
});

test("a team and a user are deleted, each with its name typed, and who uses it is said", async () => {
  await page.goto("/users?q=ann");
  await link(ANN.email).click();
  await button("Delete the user").click();
  await dialog(`Delete user ${ANN.email}`).getByRole("textbox").fill(ANN.email);
  await page.keyboard.press("Enter");
  await heading("Users").waitFor();
  await link(OWNER.email).click();
  expect(await button("Delete the user").isDisabled()).toBe(true);
  await page.getByText("This is the tenant's last owner. Add another one first.").waitFor();
  await area("Teams");
  await link("Depot staff").click();
  const teams = [new URL(page.url()).pathname.split("/").at(-1)];
  await api.call("PUT", "/api/v1/admin/tunnel/depot/access", { mode: "teams", teams });
  await button("Delete the team").click();
  const end = dialog("Delete team Depot staff");
  await end.getByRole("textbox").fill("Depot staff");
  await page.keyboard.press("Enter");
  await end.getByRole("listitem").filter({ hasText: "the access list of tunnel depot" }).waitFor();
  await end.getByRole("button", { name: "Delete it all the same", exact: true }).click();
  await heading("Teams").waitFor();
  await expect.poll(() => link("Depot staff").count()).toBe(0);
});
