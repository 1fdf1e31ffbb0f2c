/** A browser that fails a test for whatever a user should never meet: errors in the console, violations
 * of the Content-Security-Policy, pages that axe finds fault with. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type axe from "axe-core";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { expect } from "vitest";
import { authority } from "./world";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [360, 900, 1440] as const;
const THEMES = ["light", "dark"] as const;
const ALL_RULES = [
  "wcag2a",
  "wcag2aa",
  "wcag21a",
  "wcag21aa",
  "wcag22aa",
  "best-practice",
] as const;
/** Rules whose outcome depends on colours. */
const COLOUR_RULES = ["color-contrast", "link-in-text-block"] as const;
/** For whoever works on the journeys: looks at each page in one theme and width only. */
const IS_QUICK = process.env.POSTERN_QUICK === "1";
/** Where `make screenshots` wants the pictures. */
const PICTURES = process.env.POSTERN_SCREENSHOTS;

/** A browser that trusts the deployment's authority as a user's would: by the store of their home. */
export function launch(): Promise<Browser> {
  const home = mkdtempSync(join(tmpdir(), "postern-browser-"));
  const store = join(home, ".pki/nssdb");
  mkdirSync(store, { recursive: true });
  certutil("-N", "--empty-password", "-d", `sql:${store}`);
  certutil("-A", "-n", "postern", "-t", "C,,", "-i", authority, "-d", `sql:${store}`);
  return chromium.launch({
    env: { ...process.env, HOME: home },
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

function certutil(...args: string[]) {
  const { status, stderr, error } = spawnSync("certutil", args, { encoding: "utf8" });
  if (status !== 0) throw error ?? new Error(`certutil ${args.join(" ")}: ${stderr}`);
}

export class Visitor {
  readonly context: BrowserContext;
  readonly page: Page;
  readonly #faults: string[] = [];
  /** Parts of messages that a journey provokes, or another test that makes network interfaces here. */
  readonly #expected: string[] = ["/api/v1/me", "net::ERR_NETWORK_CHANGED"];

  private constructor(context: BrowserContext, page: Page) {
    this.context = context;
    this.page = page;
  }

  static async come(browser: Browser, base: string): Promise<Visitor> {
    const context = await browser.newContext({
      baseURL: base,
      viewport: { width: 1440, height: 900 },
      reducedMotion: "reduce",
      permissions: ["clipboard-read", "clipboard-write"],
    });
    context.setDefaultTimeout(90_000);
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        console.error(
          `CSP: ${event.violatedDirective} forbids ${event.blockedURI || event.sourceFile}`,
        );
      });
    });
    const visitor = new Visitor(context, await context.newPage());
    visitor.page.on("console", (message) => {
      if (message.type() !== "error") return;
      visitor.#faults.push(`${message.text()} (${message.location().url})`);
    });
    visitor.page.on("pageerror", (error) => visitor.#faults.push(error.stack ?? error.message));
    visitor.page.on("request", (request) => {
      const { origin } = new URL(request.url());
      if (origin !== new URL(base).origin && !/^(data|blob):/.test(request.url())) {
        visitor.#faults.push(`a request to another host: ${request.url()}`);
      }
    });
    return visitor;
  }

  /** Browsers report each answer that is no success as an error; a journey names those it provokes. */
  expectProblem(part: string) {
    this.#expected.push(part);
  }

  /** Fails if anything was found so far. */
  assertNoFault() {
    const unexpected = this.#faults.filter(
      (fault) =>
        !(
          fault.startsWith("Failed to load resource") &&
          this.#expected.some((part) => fault.includes(part))
        ),
    );
    expect(unexpected).toEqual([]);
  }

  /** Looks at the page as it is, in both themes and at three widths; takes pictures if asked. */
  async inspect(name: string) {
    // What the mouse points at may show a tooltip, which is part of no landmark.
    await this.page.mouse.move(0, 0);
    for (const width of IS_QUICK ? [1440] : WIDTHS) {
      await this.page.setViewportSize({ width, height: 900 });
      for (const theme of IS_QUICK ? (["light"] as const) : THEMES) {
        await this.page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
        await expect
          .poll(() => this.page.locator("html").getAttribute("data-mantine-color-scheme"))
          .toBe(theme);
        const where = `${name}, ${theme}, ${width} px`;
        // What is wider than the page, by name.
        const wide = await this.page.evaluate(() => {
          const { scrollWidth, clientWidth } = document.documentElement;
          return scrollWidth > clientWidth
            ? [...document.querySelectorAll("body *")]
                .filter((each) => each.getBoundingClientRect().right > clientWidth)
                .map((each) => each.outerHTML.slice(0, 200))
            : [];
        });
        expect(wide, `${where}: the page scrolls sideways`).toEqual([]);
        // What a theme changes is colours.
        const rules = theme === THEMES[0] ? ALL_RULES : COLOUR_RULES;
        expect(await this.#violations(rules), where).toEqual([]);
        if (PICTURES) {
          mkdirSync(PICTURES, { recursive: true });
          await this.page.evaluate(() => window.scrollTo(0, 0));
          await this.page.screenshot({ path: join(PICTURES, `${name}-${theme}-${width}.png`) });
        }
      }
    }
    await this.page.setViewportSize({ width: 1440, height: 900 });
    this.assertNoFault();
  }

  async #violations(rules: readonly string[]): Promise<string[]> {
    await this.page.evaluate(`if (!window.axe) { ${AXE} }`);
    return this.page.evaluate(async (runOnly) => {
      const results: axe.AxeResults = await Reflect.get(window, "axe").run(document, { runOnly });
      return results.violations.flatMap((violation) =>
        violation.nodes.map(
          (node) => `${violation.id}: ${node.target.join(" ")}: ${node.failureSummary}`,
        ),
      );
    }, rules);
  }

  close() {
    return this.context.close();
  }
}

type Conflict = {
  /** The name of the form. */
  form: string;
  /** What I change, and save last. */
  mine: (tab: Page) => Promise<unknown>;
  /** What I change first. */
  before?: (tab: Page) => Promise<unknown>;
  theirs: (tab: Page) => Promise<unknown>;
};

/** Edits the same thing in two tabs: mine is told of theirs, keeps what was typed, and can be saved then. */
export async function conflict(
  mine: Page,
  theirs: Page,
  path: string,
  { form, ...edit }: Conflict,
) {
  const save = (tab: Page) =>
    tab.getByRole("form", { name: form, exact: true }).getByRole("button", { name: "Save" });
  const saved = (tab: Page) => expect.poll(() => save(tab).isDisabled()).toBe(true);
  await mine.goto(path);
  await theirs.goto(path);
  await (edit.before ?? edit.mine)(mine);
  await edit.theirs(theirs);
  await save(theirs).click();
  await saved(theirs);
  await edit.mine(mine);
  await save(mine).click();
  await mine.getByText(/has changed it since; nothing was changed/).waitFor();
  await save(mine).click();
  await saved(mine);
}
