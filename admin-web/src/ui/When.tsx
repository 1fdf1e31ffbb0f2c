import { Text, Tooltip } from "@mantine/core";
import { useSyncExternalStore } from "react";
import { exactTime, relativeTime } from "@/lib/time";

// One clock for all times on the page.
const TICK_MS = 10_000;
let now = new Date();
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

function subscribe(listener: () => void) {
  listeners.add(listener);
  if (timer === undefined) {
    now = new Date();
    timer = setInterval(() => {
      now = new Date();
      for (const each of listeners) each();
    }, TICK_MS);
  }
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** The time now, to ten seconds. */
export function useNow(): Date {
  return useSyncExternalStore(subscribe, () => now);
}

/** A time, relative, with the exact one on hover. */
export function When({ at }: { at: string }) {
  const date = new Date(at);
  // A time that is later than the last tick is now.
  const clock = useNow();
  const reference = date > clock && date.getTime() - clock.getTime() < TICK_MS ? date : clock;
  return (
    <Tooltip label={exactTime(date)} events={{ hover: true, focus: true, touch: true }}>
      <Text component="time" span inherit dateTime={at} className="nowrap above-row-link">
        {relativeTime(date, reference)}
      </Text>
    </Tooltip>
  );
}
