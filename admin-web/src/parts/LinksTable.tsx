import { Text } from "@mantine/core";
import type { ReactNode } from "react";
import type { Schemas } from "@/api/client";
import { microseconds } from "@/lib/time";
import { Rows } from "@/ui/Rows";
import { When } from "@/ui/When";
import { transport } from "./LinkDots";

type Row = Schemas["LinkBody"] & { host: string };

/** The links of some connectors, a row each. */
export function LinksTable({
  connectors,
  actions,
}: {
  connectors: readonly Schemas["ConnectorBody"][];
  /** What can be done about each link. */
  actions?: (link: Schemas["LinkBody"]) => ReactNode;
}) {
  const rows = connectors.flatMap((connector) =>
    [...connector.links]
      .sort((a, b) => a.slot - b.slot)
      .map((link) => ({ ...link, host: connector.host })),
  );
  if (rows.length === 0) {
    return (
      <Text size="sm" c="dimmed">
        No link is up. Start a connector with the tunnel's secret.
      </Text>
    );
  }
  return (
    <Rows
      label="Links"
      kind={actions ? "tunnel-link-act" : "tunnel-link"}
      items={rows}
      itemKey={(link) => `${link.host} ${link.edge} ${link.slot} ${link.since}`}
      columns={[
        {
          label: "Link",
          cell: ({ slot }) => (
            <Text size="sm" fw={600}>
              Slot {slot}
            </Text>
          ),
        },
        // Where links are acted on, all are one connector's.
        ...(actions ? [] : [{ label: "Connector", cell: ({ host }: Row) => host || "–" }]),
        { label: "Region", cell: ({ region }) => region ?? "–" },
        { label: "Edge", cell: ({ edge }) => <code title={edge}>{edge.slice(-6)}</code> },
        { label: "Transport", cell: (link) => transport(link.transport) },
        {
          label: "Round trip",
          cell: ({ rtt_us: rtt }) => (rtt == null ? "not yet" : microseconds(rtt)),
        },
        { label: "Up since", cell: ({ since }) => <When at={since} /> },
        { label: "From", cell: ({ remote }) => remote },
        ...(actions ? [{ label: "Actions", cell: actions }] : []),
      ]}
    />
  );
}
