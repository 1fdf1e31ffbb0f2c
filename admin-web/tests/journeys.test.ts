/** The journeys of people through the console, in the order in which a deployment grows. */
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { conflict, launch, Visitor } from "./browser";
import {
  Api,
  base,
  OWNER,
  origin,
  setUpLink,
  startConnector,
  stopConnectors,
  withoutEdges,
} from "./world";

let browser: Browser;
let owner: Visitor;
let page: Page;

beforeAll(async () => {
  browser = await launch();
  owner = await Visitor.come(browser, base);
  page = owner.page;
});

afterEach(() => owner.assertNoFault());

afterAll(async () => {
  stopConnectors();
  await browser?.close();
});

const heading = (name: string) => page.getByRole("heading", { name, level: 1 });
const tab = (name: string) => page.getByRole("tab", { name });

test("without a session every page leads to the sign-in, and back", async () => {
  const response = await page.goto("/admin/tunnel?q=office");
  const policy = response?.headers()["content-security-policy"] ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
  await heading("Sign in").waitFor();
  expect(new URL(page.url()).searchParams.get("to")).toBe("/admin/tunnel?q=office");
  await owner.inspect("login");
  owner.expectProblem("/api/v1/session");
  await page.getByLabel("E-mail address").fill(OWNER.email);
  await page.getByLabel("Password", { exact: true }).fill("not chosen yet");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("The login failed").waitFor();
});

test("the owner chooses a password by the link that works once", async () => {
  await page.goto(setUpLink);
  await heading("Set up Postern").waitFor();
  await page.getByRole("textbox", { name: "E-mail address" }).waitFor();
  expect(new URL(page.url()).hash, "the secret stays in no history").toBe("");
  await owner.inspect("setup");
  await page.getByLabel("Password", { exact: true }).fill("short");
  await page.getByRole("button", { name: "Set the password" }).click();
  await page.getByText("This is not the same password").waitFor();
  await page.getByLabel("Password", { exact: true }).fill(OWNER.password);
  await page.getByLabel("The same password again").fill(OWNER.password);
  await page.getByRole("button", { name: "Set the password" }).click();
  await heading("Tunnels").waitFor();
  const cookies = await owner.context.cookies();
  expect(cookies.map(({ name, secure, httpOnly }) => [name, secure, httpOnly])).toEqual([
    ["__Host-postern", true, true],
  ]);
  await page.getByText("No tunnels yet").waitFor();
  await owner.inspect("tunnels-empty");

  const stranger = await Visitor.come(browser, base);
  stranger.expectProblem("/api/v1/setup/link");
  await stranger.page.goto(setUpLink);
  await stranger.page.getByText("The link does not work").waitFor();
  stranger.assertNoFault();
  await stranger.close();
});

test("the wizard leads to a tunnel that turns green by itself", async () => {
  await page.getByRole("link", { name: "Create the first tunnel" }).click();
  await heading("Create a tunnel").waitFor();
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText("Give the tunnel a name").waitFor();
  await page.getByLabel("What people call it").fill("Office network");
  expect(await page.getByRole("textbox", { name: "Name", exact: true }).inputValue()).toBe(
    "office-network",
  );
  await page.getByRole("textbox", { name: "Name", exact: true }).fill("office");
  await owner.inspect("wizard-name");
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText("Any team", { exact: true }).waitFor();
  await owner.inspect("wizard-access");
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByRole("radio", { name: "Program" }).check();
  await owner.inspect("wizard-runs");
  await page.getByRole("button", { name: "Create the tunnel" }).click();
  await page.getByText("Waiting for the connector").waitFor();
  expect(await page.getByText(/ptn1_/).count(), "the secret is masked").toBe(0);
  await owner.inspect("wizard-secret");
  await page.getByRole("button", { name: "Show the secret" }).click();
  const command = (await page.getByLabel("Command", { exact: true }).textContent()) ?? "";
  expect(command).toContain("TUNNEL_SECRET='ptn1_");
  await mark(page);
  startConnector(command);
  await page.getByText("The tunnel is connected").waitFor();
  await page.getByText("4 links of 4").waitFor();
  await expectSamePage(page);
  await page.getByRole("button", { name: "Hide the secret" }).click();
  await owner.inspect("wizard-connected");
  await page.getByRole("link", { name: "Go to the tunnel" }).click();
  await heading("Office network").waitFor();
  await page.getByText("The connector holds all 4 links.").first().waitFor();
  // Links are measured within a heartbeat.
  await expect.poll(() => page.getByText("not yet").count(), { timeout: 60_000 }).toBe(0);
  await owner.inspect("tunnel-overview");
});

test("a tunnel that loses its links says why, and turns green again, without a reload", async () => {
  await mark(page);
  const rows = page.getByLabel("Latest changes").getByRole("row");
  const now = page.getByRole("region", { name: "Now", exact: true });
  await withoutEdges(now.getByText("Down", { exact: true }).waitFor());
  await owner.inspect("tunnel-overview-down");
  await now.getByText("The connector holds all 4 links.").waitFor();
  await expect.poll(() => rows.nth(1).textContent()).toContain("Healthy");
  await expect.poll(() => rows.filter({ hasText: "Down" }).count()).toBe(1);
  await page.getByText("The connector holds all 4 links.").first().waitFor();
  await expectSamePage(page);
});

test("the list shows each tunnel with its links, and search stands in the URL", async () => {
  const api = await Api.signIn(OWNER.email, OWNER.password);
  await page.goto("/admin/tunnel");
  await page.getByRole("link", { name: "Office network" }).waitFor();
  await mark(page);
  await api.call("POST", "/api/v1/admin/tunnel", { name: "lab", display_name: "Laboratory" });
  await page.getByRole("link", { name: "Laboratory" }).waitFor();
  await expectSamePage(page);
  await page.getByLabel("4 links").waitFor();
  await owner.inspect("tunnels");
  await page.keyboard.press("/");
  await page.keyboard.type("lab");
  await expect.poll(() => new URL(page.url()).search).toBe("?q=lab");
  await expect.poll(() => page.getByRole("link", { name: "Office network" }).count()).toBe(0);
  await page.reload();
  await page.getByRole("link", { name: "Laboratory" }).waitFor();
  expect(await page.getByRole("link", { name: "Office network" }).count()).toBe(0);
  await page.getByLabel("Search").fill("nothing of the kind");
  await page.getByText("No tunnel fits").waitFor();
  await page.getByRole("button", { name: "Clear search and filters" }).click();
  await page.getByRole("link", { name: "Office network" }).click();
});

test("a workflow with Use tunnel gets the private answer; without access it is refused", async () => {
  const api = await Api.signIn(OWNER.email, OWNER.password);
  await api.call("POST", "/api/v1/teams", { name: "automation" });
  await page.getByRole("link", { name: "Workflows" }).click();
  await page.getByText("No workflows yet").waitFor();
  await owner.inspect("workflows-empty");
  await page.getByRole("link", { name: "Create the first workflow" }).click();
  await heading("Create a workflow").waitFor();
  await page.getByRole("button", { name: "Create the workflow" }).click();
  await page.getByText("Give the workflow a name").waitFor();
  await page.getByText("Enter a URL").waitFor();
  await page.getByRole("textbox", { name: "Name" }).first().fill("Read the wiki");
  await page.getByLabel("URL").fill(`${origin}/hello`);
  await page.getByRole("switch", { name: "Use tunnel" }).check();
  await page.getByRole("combobox", { name: "Tunnel" }).click();
  await page.getByRole("option", { name: /Office network · Healthy/ }).click();
  await owner.inspect("workflow-new");
  await page.getByRole("button", { name: "Create the workflow" }).click();
  await heading("Read the wiki").waitFor();
  await page.getByText("No run yet").waitFor();
  await page.getByRole("button", { name: "Run now" }).click();
  await heading("Run of Read the wiki").waitFor();
  await page.getByText("Succeeded").waitFor();
  await page.getByText("hello from the private network").waitFor();
  await page.getByText("First byte").waitFor();
  await owner.inspect("run");
  await api.call("PUT", "/api/v1/admin/tunnel/office/access", { mode: "teams", teams: [] });
  await page.getByRole("button", { name: "Run again" }).click();
  await page.getByText("Failed").waitFor();
  await page.getByText("access_denied").waitFor();
  await page.getByText("What to do:").waitFor();
  await owner.inspect("run-refused");
  await api.call("PUT", "/api/v1/admin/tunnel/office/access", { mode: "any_team" });
  await page.getByRole("link", { name: "All runs" }).click();
  await page.getByRole("link", { name: "Succeeded" }).waitFor();
  await owner.inspect("workflow-runs");
  await page.getByRole("tab", { name: "Edit" }).click();
  await page.getByRole("button", { name: "Add an action" }).click();
  await page.getByRole("group", { name: "Action 2" }).getByLabel("URL").fill("not a URL");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Begin with http:// or https://").waitFor();
  await page.getByRole("button", { name: "Remove Action 2" }).click();
  await page
    .getByRole("group", { name: "Action 1" })
    .getByRole("textbox", { name: "Name" })
    .fill("Read");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  await page.getByRole("link", { name: "Workflows" }).click();
  await page.getByText("1 action through office").waitFor();
  await owner.inspect("workflows");
  await page.getByRole("link", { name: "Tunnels" }).click();
  await page.getByRole("link", { name: "Office network" }).click();
});

test("what went through a tunnel, and what failed, stands on its page", async () => {
  const api = await Api.signIn(OWNER.email, OWNER.password);
  const [team] = (await api.call("GET", "/api/v1/teams?search=automation")).items;
  const { hostname } = new URL(origin);
  const workflow = await api.call("POST", "/api/v1/workflows", {
    team: team.id,
    name: "Knock",
    actions: [{ type: "http", name: "Knock", url: `http://${hostname}:9/`, use_tunnel: "office" }],
  });
  const run = await api.call("POST", `/api/v1/workflows/${workflow.id}/runs`);
  await expect
    .poll(async () => (await api.call("GET", `/api/v1/runs/${run.id}`)).status)
    .toBe("failed");
  await api.call("DELETE", `/api/v1/workflows/${workflow.id}`);
  const charts = page.getByRole("region", { name: "Traffic", exact: true });
  await charts.getByRole("img", { name: /^Requests: at most Answered [1-9]/ }).waitFor();
  await charts.getByRole("img", { name: /^Bytes: at most To clients [1-9]/ }).waitFor();
  const refusals = charts.getByRole("table", { name: "Refusals by code" });
  await refusals.getByRole("row", { name: "origin_refused 1" }).waitFor();
  const failures = page.getByRole("region", { name: "Latest failures", exact: true });
  const failure = failures.getByRole("listitem").filter({ hasText: "origin_refused" });
  await failure.getByText("A workflow of automation").waitFor();
  await failure.getByText(`${hostname}:9`, { exact: true }).waitFor();
  await failure.getByText("What to do:").waitFor();
  await owner.inspect("tunnel-overview-traffic");
});

test("access is saved, and the answer names the edges that obey", async () => {
  await tab("Access").click();
  await page.getByText("Chosen teams").click();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText(/2 edges obey it already/).waitFor();
  const users = page.getByRole("list", { name: "Teams that can use it" }).getByRole("listitem");
  await users
    .filter({ hasText: "Read the wiki" })
    .getByText(/^is refused/)
    .waitFor();
  await owner.inspect("tunnel-access");
  await page.getByText("Any team", { exact: true }).click();
  await page.getByRole("button", { name: "Save" }).click();
  await expect.poll(() => page.getByRole("button", { name: "Save" }).isDisabled()).toBe(true);
});

test("a secret is rotated to the end", async () => {
  await tab("Connectors").click();
  await page.getByText("Policy of its own").waitFor();
  await owner.inspect("tunnel-connectors");
  await tab("Secrets").click();
  await page.getByRole("button", { name: "Add a second secret" }).click();
  await page.getByText(/links still use/).waitFor();
  await page.getByRole("tab", { name: "Program" }).click();
  await page.getByRole("button", { name: "Show the secret" }).click();
  const command = (await page.getByLabel("Command", { exact: true }).textContent()) ?? "";
  await page.getByRole("button", { name: "Hide the secret" }).click();
  await owner.inspect("tunnel-secrets");
  stopConnectors();
  startConnector(command);
  await page.getByText(/Nobody uses/).waitFor();
  await page.getByRole("button", { name: /^Revoke [0-9a-f]{6}$/ }).click();
  const dialog = page.getByRole("dialog");
  expect(await dialog.getByRole("button", { name: "Revoke the secret" }).isDisabled()).toBe(true);
  await dialog.getByLabel("Type office to confirm").fill("office");
  await owner.inspect("dialog-revoke");
  await dialog.getByRole("button", { name: "Revoke the secret" }).click();
  await page.getByText(/2 edges obey it already/).waitFor();
  await page.getByText("Add a second secret.").waitFor();
  await tab("Audit").click();
  await page.getByText("tunnel.revoke_secret").waitFor();
  await owner.inspect("tunnel-audit");
});

test("a session that ends in mid-edit asks to sign in again and loses nothing", async () => {
  await tab("Settings").click();
  const name = page.getByLabel("What people call it");
  await name.fill("Office in Bern");
  await owner.inspect("tunnel-settings");
  owner.expectProblem("/api/v1/");
  const api = await Api.signIn(OWNER.email, OWNER.password);
  for (const session of (await api.call("GET", "/api/v1/me/sessions")).items) {
    if (!session.is_current) await api.call("DELETE", `/api/v1/me/sessions/${session.id}`);
  }
  const dialog = page.getByRole("dialog", { name: "Your session has ended" });
  await dialog.waitFor();
  await owner.inspect("dialog-sign-in-again");
  await dialog.getByLabel("Password", { exact: true }).fill(OWNER.password);
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "hidden" });
  expect(await name.inputValue()).toBe("Office in Bern");
  await page.getByRole("button", { name: "Save" }).click();
  await heading("Office in Bern").waitFor();
});

test("two tabs that edit the same see a conflict, and nothing that was typed is lost", async () => {
  const api = await Api.signIn(OWNER.email, OWNER.password);
  owner.expectProblem("/api/v1/");
  const other = await owner.context.newPage();
  const name = (tab: Page) => tab.getByLabel("What people call it");
  await conflict(page, other, "/admin/tunnel/office/settings", {
    form: "Name",
    mine: (tab) => name(tab).fill("Office in Bern, mine"),
    theirs: (tab) => name(tab).fill("Office in Bern, theirs"),
  });
  await heading("Office in Bern, mine").waitFor();
  await page.getByLabel("What people call it").fill("Office in Bern");
  await page.getByRole("button", { name: "Save" }).click();
  await heading("Office in Bern").waitFor();

  await conflict(page, other, "/admin/tunnel/office/access", {
    form: "Access",
    mine: (tab) => tab.getByText("Chosen teams").click(),
    theirs: async (tab) => {
      await tab.getByText("Chosen teams").click();
      await tab.getByRole("combobox", { name: "Teams" }).click();
      await tab.getByRole("option", { name: "automation" }).click();
    },
  });
  const { access } = await api.call("GET", "/api/v1/admin/tunnel/office");
  expect(access).toEqual({ mode: "teams", teams: [] });
  await api.call("PUT", "/api/v1/admin/tunnel/office/access", { mode: "any_team" });

  const [workflow] = (await api.call("GET", "/api/v1/workflows")).items;
  const title = (tab: Page) => tab.getByRole("textbox", { name: "Name" }).first();
  await conflict(page, other, `/workflows/${workflow.id}?tab=edit`, {
    form: "Workflow",
    mine: (tab) => title(tab).fill("Read the wiki"),
    theirs: (tab) => title(tab).fill("Read the wiki, theirs"),
    before: (tab) => title(tab).fill("Read the wiki, mine"),
  });
  await other.close();
  const second = await api.call("POST", "/api/v1/teams", { name: "second shift" });
  await page.getByRole("combobox", { name: "Team", exact: true }).click();
  await page.getByRole("option", { name: "second shift" }).click();
  await page.getByRole("button", { name: "Save" }).click();
  await expect
    .poll(async () => (await api.call("GET", `/api/v1/workflows/${workflow.id}`)).team)
    .toBe(second.id);
  await api.call("PUT", `/api/v1/workflows/${workflow.id}`, {
    name: workflow.name,
    team: workflow.team,
    actions: (await api.call("GET", `/api/v1/workflows/${workflow.id}`)).actions,
  });
});

test("who uses a tunnel is said before it is deleted", async () => {
  const api = await Api.signIn(OWNER.email, OWNER.password);
  const [team] = (await api.call("GET", "/api/v1/teams?search=automation")).items;
  await api.call("POST", "/api/v1/workflows", {
    team: team.id,
    name: "Read the thermometer",
    actions: [
      { type: "http", name: "Read", method: "GET", url: `${origin}/hello`, use_tunnel: "lab" },
    ],
  });
  await page.goto("/admin/tunnel/lab/settings");
  await page.getByRole("button", { name: "Delete the tunnel" }).click();
  const dialog = page.getByRole("dialog", { name: "Delete tunnel lab" });
  await dialog.getByLabel("Type lab to confirm").fill("lab");
  await dialog.getByRole("button", { name: "Delete the tunnel" }).click();
  await dialog.getByRole("listitem").filter({ hasText: "Read the thermometer" }).waitFor();
  await owner.inspect("dialog-delete-used");
  await dialog.getByRole("button", { name: "Delete it all the same" }).click();
  await heading("Tunnels").waitFor();
  await expect.poll(() => page.getByRole("link", { name: "Laboratory" }).count()).toBe(0);
});

test("sessions are listed and can be ended; the theme can be switched", async () => {
  await Api.signIn(OWNER.email, OWNER.password);
  await page.goto("/me");
  await page.getByText("This one", { exact: true }).waitFor();
  await owner.inspect("account");
  const ends = page.getByRole("button", { name: /^End the session of/ });
  const before = await ends.count();
  expect(before).toBeGreaterThan(0);
  await ends.first().click();
  await expect.poll(() => ends.count()).toBe(before - 1);
  await page.getByRole("button", { name: OWNER.email }).click();
  await page.getByRole("menuitem", { name: "Dark" }).click();
  await page.emulateMedia({ colorScheme: "light" });
  expect(await page.locator("html").getAttribute("data-mantine-color-scheme")).toBe("dark");
  await page.getByRole("button", { name: OWNER.email }).click();
  await page.getByRole("menuitem", { name: "As the system" }).click();
  await expect
    .poll(() => page.locator("html").getAttribute("data-mantine-color-scheme"))
    .toBe("light");
  await page.goto("/about");
  await page.getByText(/^Version \d/).waitFor();
  await owner.inspect("about");
  await page.goto("/nothing/here");
  await page.getByText("There is no such page").waitFor();
  await owner.inspect("not-found");
});

test("a browser that is offline says so, and heals by itself", async () => {
  await page.goto("/admin/tunnel");
  await page.getByRole("link", { name: "Office in Bern" }).waitFor();
  await owner.context.setOffline(true);
  await page.getByText("This browser is offline").waitFor();
  owner.expectProblem("ERR_INTERNET_DISCONNECTED");
  owner.expectProblem("/api/v1/");
  await owner.context.setOffline(false);
  await page.getByText("This browser is offline").waitFor({ state: "detached" });
});

test("a member who may not manage tunnels sees neither more nor less than they should", async () => {
  const api = await Api.signIn(OWNER.email, OWNER.password);
  const password = "a member's password";
  const user = await api.call("POST", "/api/v1/users", { email: "member@example.com", password });
  const [team] = (await api.call("GET", "/api/v1/teams?search=automation")).items;
  await api.call("PUT", `/api/v1/teams/${team.id}/members/${user.id}`);
  const member = await Visitor.come(browser, base);
  member.expectProblem("/api/v1/admin/tunnel");
  const { page } = member;
  await page.goto("/login");
  await page.getByLabel("E-mail address").fill("member@example.com");
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.keyboard.press("Enter");
  const areas = page.getByRole("navigation", { name: "Areas" }).getByRole("link");
  await areas.first().waitFor();
  expect(await areas.allTextContents()).toEqual([
    "Workflows",
    "Proxy tokens",
    "Teams",
    "API keys",
    "Your account",
    "About",
  ]);
  for (const [path, words] of [
    ["/admin/tunnel", "You may not manage tunnels"],
    ["/admin/tunnel/new", "You may not manage tunnels"],
    ["/admin/tunnel/office", "You may not manage tunnels"],
    ["/users", "You may not see users"],
    ["/edges", "You may not see edges"],
    ["/audit", "You may not see the audit log"],
  ] as const) {
    await page.goto(path);
    await page.getByText(words).waitFor();
    expect(await page.getByText("Office").count(), path).toBe(0);
  }
  await member.inspect("member");
  await page.getByRole("link", { name: "Workflows" }).click();
  await page.getByRole("link", { name: "Read the wiki" }).click();
  await page.getByRole("button", { name: "Run now" }).click();
  await page.getByText("hello from the private network").waitFor();
  await page.getByRole("link", { name: "Teams" }).click();
  await page.getByRole("link", { name: "automation" }).click();
  await page.getByText("1 member").waitFor();
  for (const action of ["Delete the team", "Add"]) {
    expect(await page.getByRole("button", { name: action, exact: true }).count(), action).toBe(0);
  }
  member.assertNoFault();
  await member.close();
});

test("a tunnel is made and deleted by keyboard alone", async () => {
  const visitor = await Visitor.come(browser, base);
  const { page } = visitor;
  const { keyboard } = page;
  const focusOn = async (role: "button" | "link" | "textbox" | "tab", name: string | RegExp) => {
    const target = page.getByRole(role, { name, exact: typeof name === "string" });
    await target.waitFor();
    for (let presses = 0; presses < 80; presses += 1) {
      if (await target.evaluate((element) => element === document.activeElement)) return;
      await keyboard.press("Tab");
    }
    throw new Error(`the ${role} ${name} cannot be reached by Tab`);
  };
  await page.goto("/login?to=/admin/tunnel/new");
  await focusOn("textbox", "E-mail address");
  await keyboard.type(OWNER.email);
  await keyboard.press("Tab");
  await keyboard.type(OWNER.password);
  await keyboard.press("Enter");
  await focusOn("textbox", "What people call it");
  await keyboard.type("By keyboard");
  await keyboard.press("Enter");
  await page.getByText("Any team", { exact: true }).waitFor();
  await focusOn("button", "Next");
  await keyboard.press("Enter");
  await focusOn("button", "Create the tunnel");
  await keyboard.press("Enter");
  await page.getByText("Waiting for the connector").waitFor();
  page.once("dialog", (dialog) => void dialog.accept());
  await focusOn("link", "Go on without waiting");
  await keyboard.press("Enter");
  await focusOn("tab", "Overview");
  await keyboard.press("End");
  await page.getByRole("heading", { name: "Delete" }).waitFor();
  await focusOn("button", "Delete the tunnel");
  await keyboard.press("Enter");
  await page.getByRole("dialog").getByRole("textbox").waitFor();
  await keyboard.type("by-keyboard");
  await keyboard.press("Enter");
  await page.getByRole("heading", { name: "Tunnels", level: 1 }).waitFor();
  await expect.poll(() => page.getByRole("link", { name: "By keyboard" }).count()).toBe(0);
  visitor.assertNoFault();
  await visitor.close();
});

test("signing out ends the session", async () => {
  await page.getByRole("button", { name: OWNER.email }).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await heading("Sign in").waitFor();
  await page.goto("/admin/tunnel");
  await heading("Sign in").waitFor();
});

/** Leaves something in the page that a reload would take away. */
function mark(page: Page) {
  return page.evaluate(() => Reflect.set(window, "isSamePage", true));
}

async function expectSamePage(page: Page) {
  expect(
    await page.evaluate(() => Reflect.get(window, "isSamePage")),
    "the page was reloaded",
  ).toBe(true);
}
