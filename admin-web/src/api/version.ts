/** Edits of something that others edit, too: who saves an older version is told, not obeyed (`If-Match`). */
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { Problem } from "./problem";

/** Has somebody else changed the thing since the edit began? */
export function isStale(error: unknown): boolean {
  return error instanceof Problem && error.code === "stale";
}

type Draft<T> = {
  readonly value: T;
  /** Of the version on which it began; without one it is of the current version. */
  readonly etag?: string;
};

/** What is left of a draft once `sent` is saved: what has been typed since, on top of the saved version. */
export function unsaved<T>(draft: Draft<T> | undefined, sent: T): Draft<T> | undefined {
  return draft && !Object.is(draft.value, sent) ? { value: draft.value } : undefined;
}

/**
 * What is being typed about a thing. It stands until it is saved or discarded, whatever others save
 * meanwhile; what is typed during a save is not lost either. `send` gets the version on which the draft
 * began. After the user has been told of another's change, the next save is of the current version.
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
  const [draft, setDraft] = useState<Draft<T>>();
  const save = useMutation({
    mutationFn: (value: T) => send(value, draft?.etag ?? etag),
    onSuccess: async (_, sent) => {
      await lookUp();
      setDraft((before) => unsaved(before, sent));
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
      // A save that is under way is not forgotten: it would be sent twice.
      if (!save.isPending) save.reset();
    },
    discard: () => {
      setDraft(undefined);
      save.reset();
    },
  };
}
