/** Edits of something that others edit, too: who saves an older version is told, not obeyed (`If-Match`). */
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { Problem } from "./problem";

/** Has somebody else changed the thing since the edit began? */
export function isStale(error: unknown): boolean {
  return error instanceof Problem && error.code === "stale";
}

/**
 * What is being typed about a thing. It stands until it is saved or discarded, whatever others save
 * meanwhile; `send` gets the version on which it began. After the user has been told of another's change,
 * the next save is of the current version.
 */
export function useDraft<T, Saved>({
  current,
  etag,
  send,
  lookUp,
  onSaved,
}: {
  current: T;
  etag: string;
  send: (draft: T, etag: string) => Promise<Saved>;
  /** Gets the thing anew. */
  lookUp: () => Promise<unknown>;
  onSaved?: () => void;
}) {
  // Without a version: of the current one.
  const [draft, setDraft] = useState<{ value: T; etag?: string }>();
  const save = useMutation({
    mutationFn: (value: T) => send(value, draft?.etag ?? etag),
    onSuccess: async () => {
      await lookUp();
      setDraft(undefined);
      onSaved?.();
    },
    onError: async (error) => {
      if (!isStale(error)) return;
      await lookUp();
      setDraft((before) => before && { value: before.value });
    },
  });
  return {
    value: draft ? draft.value : current,
    isTouched: draft !== undefined,
    save,
    set: (value: T) => {
      setDraft((before) => ({ value, etag: before?.etag ?? etag }));
      save.reset();
    },
    discard: () => {
      setDraft(undefined);
      save.reset();
    },
  };
}
