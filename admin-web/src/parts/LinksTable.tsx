import { Table, Text } from "@mantine/core";
import type { Schemas } from "@/api/client";
import { microseconds } from "@/lib/time";
import { Scroll } from "@/ui/Scroll";
import { When } from "@/ui/When";
import { transport } from "./LinkDots";

/** The links of some connectors, a row each. */
export function LinksTable({ connectors }: { connectors: readonly Schemas["ConnectorBody"][] }) {
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
    <Scroll label="Links">
      <Table>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Slot</Table.Th>
            <Table.Th>Connector</Table.Th>
            <Table.Th>Region</Table.Th>
            <Table.Th>Edge</Table.Th>
            <Table.Th>Transport</Table.Th>
            <Table.Th ta="right">Round trip</Table.Th>
            <Table.Th>Up since</Table.Th>
            <Table.Th>From</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((link) => (
            <Table.Tr key={`${link.host} ${link.edge} ${link.slot} ${link.since}`}>
              <Table.Td>{link.slot}</Table.Td>
              <Table.Td>{link.host || "–"}</Table.Td>
              <Table.Td>{link.region ?? "–"}</Table.Td>
              <Table.Td>
                <code title={link.edge}>{link.edge.slice(-6)}</code>
              </Table.Td>
              <Table.Td>{transport(link.transport)}</Table.Td>
              <Table.Td ta="right" className="nowrap">
                {link.rtt_us == null ? "not yet" : microseconds(link.rtt_us)}
              </Table.Td>
              <Table.Td>
                <When at={link.since} />
              </Table.Td>
              <Table.Td className="nowrap">{link.remote}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Scroll>
  );
}
