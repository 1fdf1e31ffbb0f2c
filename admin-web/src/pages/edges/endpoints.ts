/** The firewall table: every address once, in an order that stays. */
import type { Schemas } from "@/api/client";

export type Endpoint = Schemas["Endpoint"] & { readonly region: string };

export function endpoints(
  edges: readonly Pick<Schemas["Edges"]["items"][number], "region" | "endpoints">[],
): Endpoint[] {
  const all = new Map<string, Endpoint>();
  for (const { region, endpoints } of edges) {
    for (const endpoint of endpoints) {
      const key = `${endpoint.host} ${endpoint.port} ${endpoint.protocol}`;
      if (!all.has(key)) all.set(key, { ...endpoint, region });
    }
  }
  return [...all.values()];
}

/** Tab-separated, with a head: for spreadsheets and tickets. */
export function asText(rows: readonly Endpoint[]): string {
  return [
    ["address", "port", "protocol", "region", "purpose"],
    ...rows.map(({ host, port, protocol, region, purpose }) => [
      host,
      String(port),
      protocol,
      region,
      purpose,
    ]),
  ]
    .map((cells) => cells.join("\t"))
    .join("\n");
}
