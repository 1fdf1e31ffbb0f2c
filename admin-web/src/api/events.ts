/**
 * The stream of events: what has changed, so that it is looked up again. It heals by itself; while it
 * is broken a banner says since when.
 *
 * Whatever arrives within a moment leads to one round of look-ups, at most one a second.
 */
import type { QueryClient } from "@tanstack/react-query";
import { door } from "./client";
import { concerned, field } from "./concerned";
import { session } from "./session";

export type StreamState =
  | { readonly kind: "connecting" }
  | { readonly kind: "live" }
  | { readonly kind: "lost"; readonly since: Date };

/** The server sends something at least every 15 seconds. */
const SILENT_MS = 40_000;
const RETRY_MS = 2_000;
const GATHER_MS = 100;
const PAUSE_MS = 1_000;

const NAMES = ["change", "presence", "edges", "usable_tunnels", "run", "resync"] as const;

export class EventStream {
  readonly #queries: QueryClient;
  readonly #listeners = new Set<() => void>();
  #state: StreamState = { kind: "connecting" };
  #source: EventSource | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #flush: ReturnType<typeof setTimeout> | undefined;
  #flushedAt = 0;
  #due = new Map<string, readonly string[]>();
  #isAllDue = false;

  constructor(queries: QueryClient) {
    this.#queries = queries;
  }

  state = () => this.#state;

  subscribe = (listener: () => void) => {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  };

  start() {
    this.#close();
    const source = new EventSource("/api/v1/events");
    this.#source = source;
    this.#heard();
    source.addEventListener("hello", () => {
      // What is not a change of configuration is not told again after a break.
      if (this.#state.kind === "lost") this.#take("resync", undefined);
      this.#change({ kind: "live" });
      this.#heard();
    });
    source.addEventListener("alive", () => this.#heard());
    source.addEventListener("bye", (event) => {
      if (field(parsed(event.data), "reason") === "session_ended") void this.#sessionEnded();
    });
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        this.#heard();
        this.#take(name, parsed(event.data));
      });
    }
    source.addEventListener("error", () => {
      this.#lost();
      // The browser gives up by itself after an answer that is no stream.
      if (source.readyState === EventSource.CLOSED) void this.#tryAgain();
    });
  }

  stop() {
    this.#close();
    clearTimeout(this.#flush);
    this.#flush = undefined;
    this.#change({ kind: "connecting" });
  }

  #close() {
    this.#source?.close();
    this.#source = undefined;
    clearTimeout(this.#silence);
    clearTimeout(this.#retry);
  }

  #heard() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#lost();
      this.start();
    }, SILENT_MS);
  }

  #lost() {
    if (this.#state.kind !== "lost") this.#change({ kind: "lost", since: new Date() });
  }

  async #tryAgain() {
    this.#close();
    const me = await door.GET("/api/v1/me").catch(() => undefined);
    if (me?.response.status === 401) {
      await this.#sessionEnded();
    } else if (!this.#source) {
      this.#retry = setTimeout(() => this.start(), RETRY_MS);
    }
  }

  async #sessionEnded() {
    this.#close();
    if (session.state().kind === "unknown") return;
    await session.renewed();
    this.#take("resync", undefined);
    this.start();
  }

  #take(event: string, data: unknown) {
    const keys = concerned(event, data);
    if (keys === "all") this.#isAllDue = true;
    else for (const key of keys) this.#due.set(key.join("\n"), key);
    if (this.#flush !== undefined || (!this.#isAllDue && this.#due.size === 0)) return;
    const wait = Math.max(GATHER_MS, this.#flushedAt + PAUSE_MS - Date.now());
    this.#flush = setTimeout(() => this.#lookUp(), wait);
  }

  #lookUp() {
    this.#flush = undefined;
    this.#flushedAt = Date.now();
    if (this.#isAllDue) void this.#queries.invalidateQueries();
    else
      for (const queryKey of this.#due.values()) void this.#queries.invalidateQueries({ queryKey });
    this.#isAllDue = false;
    this.#due.clear();
  }

  #change(state: StreamState) {
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}

function parsed(text: unknown): unknown {
  if (typeof text !== "string") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
