import { expect, test } from "vitest";
import { asText, endpoints } from "./endpoints";

const udp = { host: "a.example", port: 443, protocol: "udp", purpose: "links over QUIC" };
const tcp = { ...udp, protocol: "tcp", purpose: "links over HTTP/2" };

test("an address that several edges share stands in the firewall table once", () => {
  const rows = endpoints([
    { region: "eu", endpoints: [udp, tcp] },
    { region: "us", endpoints: [udp, { ...udp, port: 7844 }] },
  ]);
  expect(rows.map(({ region, port, protocol }) => `${region} ${port} ${protocol}`)).toEqual([
    "eu 443 udp",
    "eu 443 tcp",
    "us 7844 udp",
  ]);
  expect(asText(rows.slice(0, 1))).toBe(
    "address\tport\tprotocol\tregion\tpurpose\na.example\t443\tudp\teu\tlinks over QUIC",
  );
});
