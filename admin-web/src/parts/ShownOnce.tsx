/**
 * A secret that is shown once. Masked until *Show*, since somebody may be looking on; *Copy* copies the
 * real one.
 */
import { Alert, Button, Group, Text } from "@mantine/core";
import { useBlocker } from "@tanstack/react-router";
import { type ReactNode, useRef } from "react";
import { download } from "@/lib/download";
import { Copy } from "@/ui/Copy";

export const MASK = "•".repeat(24);

export function ShownOnce({
  secret,
  what,
  file,
  isShown,
  onShown,
  children,
}: {
  secret: string;
  /** `secret`, `token`, `key`. */
  what: string;
  /** Name of the file that *Download* makes. */
  file: string;
  isShown: boolean;
  onShown: (isShown: boolean) => void;
  /** What to do when it gets lost. */
  children: ReactNode;
}) {
  return (
    <Alert color="yellow" title={`The ${what} is shown only now`}>
      <Text size="sm" mb="sm">
        Postern keeps no copy. {children}
      </Text>
      <Group gap="xs">
        <Button
          size="xs"
          variant="default"
          onClick={() => onShown(!isShown)}
          aria-pressed={isShown}
        >
          {isShown ? `Hide the ${what}` : `Show the ${what}`}
        </Button>
        <Copy text={secret} label={`Copy the ${what}`} />
        <Button size="xs" variant="default" onClick={() => download(file, `${secret}\n`)}>
          Download the {what}
        </Button>
      </Group>
    </Alert>
  );
}

/** Asks before the page with a secret is left, while `isAtRisk`. What it returns says that it is kept. */
export function useSecretGuard(isAtRisk: boolean, what: string): () => void {
  const isKept = useRef(false);
  useBlocker({
    shouldBlockFn: () =>
      isAtRisk &&
      !isKept.current &&
      !window.confirm(`The ${what} will not be shown again. Leave without having copied it?`),
    enableBeforeUnload: () => isAtRisk && !isKept.current,
  });
  return () => {
    isKept.current = true;
  };
}
