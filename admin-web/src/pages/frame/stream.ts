import { useEffect, useSyncExternalStore } from "react";
import { EventStream, type StreamState } from "@/api/events";
import { queryClient } from "@/api/queries";

const stream = new EventStream(queryClient);

/** Keeps the stream of events open while something is shown that needs it. */
export function useStream(): StreamState {
  useEffect(() => {
    stream.start();
    return () => stream.stop();
  }, []);
  return useSyncExternalStore(stream.subscribe, stream.state);
}
