/**
 * Who is signed in, as far as calls of the API need to know: the CSRF token, and what to do when the
 * session has ended. A call that hears of it waits until somebody has signed in again, and is sent
 * once more; whoever made the call notices nothing but the time.
 *
 * ```text
 * unknown ──signedIn()──► live ──a 401──► ended ──signedIn()──► live
 *                          └──signedOut()──► unknown
 * ```
 */
type State =
  | { readonly kind: "unknown" }
  | { readonly kind: "live"; readonly csrf: string; readonly userId: string }
  | { readonly kind: "ended"; readonly userId: string };

let state: State = { kind: "unknown" };
let waiting: (() => void)[] = [];
const listeners = new Set<() => void>();

function change(next: State) {
  state = next;
  for (const listener of listeners) listener();
}

export const session = {
  state: () => state,
  csrf: () => (state.kind === "live" ? state.csrf : undefined),

  /** Somebody is signed in. Another person than before must not see what is on the page. */
  signedIn(userId: string, csrf: string) {
    if (state.kind !== "unknown" && state.userId !== userId) {
      location.assign("/");
      return;
    }
    change({ kind: "live", csrf, userId });
    const calls = waiting;
    waiting = [];
    for (const resume of calls) resume();
  },

  signedOut() {
    change({ kind: "unknown" });
  },

  /** The session has ended; resolves once somebody has signed in again. */
  renewed(): Promise<void> {
    if (state.kind === "live") change({ kind: "ended", userId: state.userId });
    return new Promise((resume) => {
      waiting.push(resume);
    });
  },

  subscribe(listener: () => void) {
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
    };
  },
};
