/** Says that what is shown may be old, and since when. */
import { Alert, Text } from "@mantine/core";
import { useNetwork } from "@mantine/hooks";
import { useEffect, useState } from "react";
import type { StreamState } from "@/api/events";

/** A break that heals within this time is not worth a word. */
const PATIENCE_MS = 1_500;
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export function Banner({ stream }: { stream: StreamState }) {
  const { online } = useNetwork();
  const since = stream.kind === "lost" ? stream.since : undefined;
  const [isLate, setIsLate] = useState(false);
  useEffect(() => {
    if (!since) {
      setIsLate(false);
      return;
    }
    const timer = setTimeout(() => setIsLate(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [since]);
  if (online && !(since && isLate)) return <div role="status" />;
  return (
    <div role="status">
      <Alert
        color="yellow"
        mb="md"
        title={online ? "Live updates are interrupted" : "This browser is offline"}
      >
        <Text size="sm">
          {since && `Since ${clock.format(since)}. `}What you see may be out of date. The console
          tries again by itself.
        </Text>
      </Alert>
    </div>
  );
}
