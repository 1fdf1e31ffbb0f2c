/** Calls of the API, typed by its OpenAPI document. */
import createClient from "openapi-fetch";
import { Problem } from "./problem";
import type { components, paths } from "./schema";
import { session } from "./session";

export type Schemas = components["schemas"];

const CSRF = "Postern-CSRF";
const IS_SAFE = new Set(["GET", "HEAD"]);

/** For everything that needs a session. A call whose session has ended waits for the next one. */
export const api = createClient<paths>({ baseUrl: location.origin, fetch: sendInSession });

/** For signing in, where a 401 means what it says. */
export const door = createClient<paths>({ baseUrl: location.origin, fetch: send });

async function sendInSession(request: Request): Promise<Response> {
  const again = request.clone();
  const response = await send(request);
  const problem = response.ok ? undefined : await code(response);
  if (problem === "unauthenticated" && session.state().kind !== "unknown") {
    await session.renewed();
    return sendInSession(again);
  }
  // Another window has signed in anew: the cookie is that session's, the token is not.
  if (problem === "bad_csrf" && (await refreshToken())) return send(again);
  return response;
}

async function send(request: Request): Promise<Response> {
  const csrf = session.csrf();
  if (csrf && !IS_SAFE.has(request.method)) request.headers.set(CSRF, csrf);
  try {
    return await fetch(request);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw Problem.unreachable();
  }
}

async function code(response: Response): Promise<string | undefined> {
  const body: unknown = await response
    .clone()
    .json()
    .catch(() => undefined);
  return Problem.from(body, response).code;
}

async function refreshToken(): Promise<boolean> {
  const { data } = await door.GET("/api/v1/me");
  if (!data?.csrf_token || data.csrf_token === session.csrf()) return false;
  session.signedIn(data.id, data.csrf_token);
  return true;
}

/** An answer's data; a "no" is thrown as a `Problem`. */
export async function answer<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok) throw Problem.from(error, response);
  if (data === undefined) throw Problem.from(undefined, response);
  return data;
}

/** The same for answers without a body. */
export async function done(call: Promise<{ error?: unknown; response: Response }>): Promise<void> {
  const { error, response } = await call;
  if (!response.ok) throw Problem.from(error, response);
}
