import { Button, type ButtonProps } from "@mantine/core";
import { useEffect, useState } from "react";

const SHOWN_MS = 2_000;

/** Copies a text; says so, or that the browser did not let it. */
export function Copy({
  text,
  label = "Copy",
  ...props
}: { text: string; label?: string } & ButtonProps) {
  const [outcome, setOutcome] = useState<"copied" | "failed">();
  useEffect(() => {
    if (!outcome) return;
    const timer = setTimeout(() => setOutcome(undefined), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [outcome]);
  const copy = async () => setOutcome((await copied(text)) ? "copied" : "failed");
  return (
    <Button variant="default" size="xs" {...props} onClick={() => void copy()}>
      <span aria-live="polite">
        {outcome === "copied" ? "Copied" : outcome === "failed" ? "Select and copy by hand" : label}
      </span>
    </Button>
  );
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without HTTPS there is no clipboard but this one.
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}
