/** Which version of a thing an edit is of, for `If-Match`: who saves an older one is told, not obeyed. */
import { useState } from "react";
import { Problem } from "./problem";

/** Has somebody else changed the thing since the edit began? */
export function isStale(error: unknown): boolean {
  return error instanceof Problem && error.code === "stale";
}

/**
 * Holds the version on which an edit began, whatever others save meanwhile. `end` after it was saved or
 * given up, and after the user has been told of another's change: then the next save is of the current one.
 */
export function useVersion(current: string) {
  const [begun, setBegun] = useState<string>();
  return {
    etag: begun ?? current,
    begin: () => setBegun((before) => before ?? current),
    end: () => setBegun(undefined),
  };
}
