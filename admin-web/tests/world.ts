/** The deployment that the journeys are made in: real processes, started by `tests/tests/console.rs`. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { dirname } from "node:path";

function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run cargo test -p postern-tests --test console`);
  return value;
}

export const base = variable("POSTERN_CONSOLE");
export const setUpLink = variable("POSTERN_SET_UP_LINK");
export const origin = variable("POSTERN_ORIGIN");
/** The certificate of the deployment's authority. */
export const authority = variable("POSTERN_CA");
const connector = variable("POSTERN_CONNECTOR");
/** Python with the packages that its recipes need. */
const python = variable("POSTERN_PYTHON");
const postern = variable("POSTERN_PID");

export const OWNER = { email: "owner@localhost", password: "correct horse battery" };

const started: ChildProcess[] = [];

/** Starts a connector by the command that the console has shown, but where the program is built. */
export function startConnector(command: string): ChildProcess {
  const here = command.replace("./target/release/postern-connector", `exec ${connector}`);
  if (here === command) throw new Error(`this command starts no program: ${command}`);
  const child = spawn("bash", ["-c", here], {
    stdio: "ignore",
    // Port 9000 may be another test's.
    env: { ...process.env, TUNNEL_METRICS_PORT: "0" },
  });
  started.push(child);
  return child;
}

/** Runs what the console has shown to be pasted into a shell, beside `ca.crt`; tells what it printed. */
export function paste(command: string): string {
  const here = command.replace(/^python3 /, `${python} `);
  // Without the proxies of this machine, and its exceptions.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/_proxy$|^NODE_EXTRA_CA_CERTS$/i.test(name)),
  );
  // Calls of the API itself, by people who have told curl whom to trust.
  env.CURL_CA_BUNDLE = authority;
  const cwd = dirname(authority);
  const done = spawnSync("bash", ["-c", here], { encoding: "utf8", env, cwd });
  if (done.status !== 0) throw new Error(`${here}: ${done.status}\n${done.stderr}`);
  return done.stdout;
}

export function stopConnectors() {
  for (const child of started) child.kill();
}

/**
 * Kills every edge whenever `postern up` has started it again, until the promise settles: edges that
 * are back within their lease of ten seconds are missed by nobody.
 */
export async function withoutEdges(until: Promise<void>) {
  let isOver = false;
  const settled = until.finally(() => {
    isOver = true;
  });
  // A failure is thrown below, once the edges are left alone.
  settled.catch(() => undefined);
  while (!isOver) {
    const found = spawnSync("pgrep", ["-P", postern], { encoding: "utf8" });
    for (const edge of found.stdout.split("\n").filter(Boolean)) kill(Number(edge));
    await new Promise((resume) => setTimeout(resume, 50));
  }
  await settled;
}

function kill(pid: number) {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It is gone already.
  }
}

/** Calls of the API beside the browser. */
export class Api {
  readonly #cookie: string;
  readonly #csrf: string;

  private constructor(cookie: string, csrf: string) {
    this.#cookie = cookie;
    this.#csrf = csrf;
  }

  /** As the owner, who chooses a password now if no journey before has. */
  static async asOwner(): Promise<Api> {
    const secret = new URL(setUpLink).hash.slice(1);
    await fetch(`${base}/api/v1/setup`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ secret, password: OWNER.password }),
    });
    return Api.signIn(OWNER.email, OWNER.password);
  }

  static async signIn(email: string, password: string): Promise<Api> {
    const response = await fetch(`${base}/api/v1/session`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ email, password }),
    });
    if (!response.ok) throw new Error(await response.text());
    const cookie = response.headers.get("set-cookie")?.split(";")[0] ?? "";
    const { csrf_token } = await response.json();
    return new Api(cookie, csrf_token);
  }

  async call(method: string, path: string, body?: unknown) {
    const response = await fetch(`${base}${path}`, {
      method,
      headers: {
        cookie: this.#cookie,
        "postern-csrf": this.#csrf,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }
}
