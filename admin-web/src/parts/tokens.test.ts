import { expect, test } from "vitest";
import { tokenState } from "./tokens";

test("a token is live until it expires or is revoked", () => {
  const now = new Date("2026-06-01T00:00:00Z");
  expect(tokenState({ expires_at: "2026-06-02T00:00:00Z" }, now)).toBe("live");
  expect(tokenState({ expires_at: "2026-06-01T00:00:00Z" }, now)).toBe("expired");
  expect(tokenState({ revoked_at: null }, now)).toBe("live");
  const revoked = { expires_at: "2026-05-01T00:00:00Z", revoked_at: "2026-04-01T00:00:00Z" };
  expect(tokenState(revoked, now)).toBe("revoked");
});
