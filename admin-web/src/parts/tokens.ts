/** What a token of any kind is good for now. */

type Token = { readonly expires_at?: string; readonly revoked_at?: string | null };

export type TokenState = "live" | "expired" | "revoked";

export function tokenState(token: Token, now = new Date()): TokenState {
  if (token.revoked_at != null) return "revoked";
  return token.expires_at !== undefined && new Date(token.expires_at) <= now ? "expired" : "live";
}

export const isLive = (token: Token, now?: Date) => tokenState(token, now) === "live";
