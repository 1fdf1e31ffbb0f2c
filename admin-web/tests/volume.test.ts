/** A list of a thousand tunnels, forty of which change each second: what that costs the page. */
import { expect, test } from "vitest";
import { launch, Visitor } from "./browser";
import { Api, base, OWNER } from "./world";

const TUNNELS = 1_000;
const CHANGES_A_SECOND = 40;
const SECONDS = 5;
/** Main-thread time that a change may cost. */
const MOST_MS = 100;

const numbered = (n: number) => String(n).padStart(4, "0");
const path = (n: number) => `/api/v1/admin/tunnel/volume-${numbered(n)}`;

test("a list of a thousand tunnels stays responsive while forty change each second", async () => {
  const api = await Api.asOwner();
  await inTurns(TUNNELS, 16, (n) =>
    api.call("POST", "/api/v1/admin/tunnel", {
      name: `volume-${numbered(n)}`,
      display_name: `Tunnel ${numbered(n)}`,
    }),
  );
  const browser = await launch();
  const visitor = await Visitor.come(browser, base);
  const { page } = visitor;
  await page.goto("/login");
  await page.getByLabel("E-mail address").fill(OWNER.email);
  await page.getByLabel("Password", { exact: true }).fill(OWNER.password);
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "Tunnel 0000", exact: true }).waitFor();
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable");
  const busy = async () => {
    const { metrics } = await cdp.send("Performance.getMetrics");
    return 1000 * (metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN);
  };
  await page.evaluate(() => {
    const longest = { ms: 0 };
    Reflect.set(window, "longest", longest);
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) longest.ms = Math.max(longest.ms, duration);
    }).observe({ type: "longtask" });
  });

  const before = await busy();
  const beganAt = performance.now();
  const changes = CHANGES_A_SECOND * SECONDS;
  await inTurns(changes, 8, async (n) => {
    // Not faster than the promise; the machine may be slower.
    await until(beganAt + (n * 1000) / CHANGES_A_SECOND);
    const tunnel = n % 10;
    await api.call("PATCH", path(tunnel), {
      display_name: `Tunnel ${numbered(tunnel)}, change ${n}`,
    });
  });
  await api.call("PATCH", path(0), { display_name: "Tunnel 0000, at last" });
  await page.getByRole("link", { name: "Tunnel 0000, at last" }).waitFor();
  const seconds = (performance.now() - beganAt) / 1000;
  const spent = (await busy()) - before;
  const longest = await page.evaluate<number>(() => Reflect.get(window, "longest").ms);
  const each = spent / changes;
  console.log(
    `${TUNNELS} tunnels, ${(changes / seconds).toFixed(0)} changes a second: ` +
      `${each.toFixed(1)} ms of the main thread for each (${((spent / seconds / 1000) * 100).toFixed(0)} % busy), ` +
      `longest task ${longest.toFixed(0)} ms`,
  );
  expect(each).toBeLessThan(MOST_MS);
  visitor.assertNoFault();
  await browser.close();
});

/** Does something for each number below `count`, at most `width` at a time. */
async function inTurns(count: number, width: number, act: (n: number) => Promise<unknown>) {
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const n = next;
      next += 1;
      await act(n);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** The pace is what is tested. */
function until(at: number): Promise<void> {
  return new Promise((resume) => setTimeout(resume, Math.max(0, at - performance.now())));
}
