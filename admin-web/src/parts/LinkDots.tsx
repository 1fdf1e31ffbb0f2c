/** One dot a link: which slots hold one, and by hover what kind. */
import { Text, Tooltip } from "@mantine/core";
import type { Schemas } from "@/api/client";
import { count } from "@/lib/text";
import { microseconds } from "@/lib/time";

type Link = Pick<Schemas["LinkBody"], "slot" | "region" | "edge" | "transport" | "rtt_us">;

/** Links that each connector wants. */
export const SLOTS = 4;

export function linkWords(link: Link): string {
  const rtt =
    link.rtt_us == null ? "round trip not measured yet" : `${microseconds(link.rtt_us)} round trip`;
  return `Slot ${link.slot}: ${link.region ?? "unknown region"}, edge ${link.edge.slice(-6)}, ${transport(link.transport)}, ${rtt}`;
}

export function transport(name: string): string {
  return name === "quic" ? "QUIC" : "HTTP/2";
}

/** `wanted` is how many there would be if none were missing. */
export function LinkDots({ links, wanted }: { links: readonly Link[]; wanted: number }) {
  const missing = Math.max(0, wanted - links.length);
  if (links.length === 0 && missing === 0) {
    return (
      <Text span size="sm" c="dimmed">
        No connector
      </Text>
    );
  }
  const label = `${count(links.length, "link")}${missing > 0 ? `, ${missing} missing` : ""}`;
  return (
    <span className="dots above-row-link" role="img" aria-label={label}>
      {links.map((link) => (
        <Tooltip key={`${link.edge} ${link.slot}`} label={linkWords(link)}>
          <span className="dot dot-appears" />
        </Tooltip>
      ))}
      {Array.from({ length: missing }, (_, n) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: dots that are all the same
        <span key={n} className="dot dot-missing" />
      ))}
    </span>
  );
}
