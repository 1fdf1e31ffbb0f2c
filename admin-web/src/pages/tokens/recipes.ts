/** How programs send requests through a tunnel: for each kind what to paste, with the token in it. */
import { quoted } from "@/lib/curl";

export type Way = {
  readonly token: string;
  /** The tunnel's name: the proxy's user. */
  readonly tunnel: string;
  /** `host:port` of an edge. */
  readonly gateway: string;
  /** The gateway speaks TLS. */
  readonly isTls: boolean;
  /** A file with the authority that has signed the gateway's certificate, if programs do not know it. */
  readonly ca?: string;
  /** What is asked for in the private network. */
  readonly url: string;
};

export type TokenRecipe = {
  readonly id: string;
  readonly label: string;
  readonly about: string;
  readonly text: (way: Way) => string;
};

/** The gateway with its credentials, as most programs take it. */
const proxy = (way: Way) => `${scheme(way)}://${way.tunnel}:${way.token}@${way.gateway}`;

const scheme = ({ isTls }: Way) => (isTls ? "https" : "http");

const proxyCa = ({ ca }: Way) => (ca ? ` --proxy-cacert ${quoted(ca)}` : "");

const script = (program: string, lines: readonly string[]) =>
  `${program} <<'EOF'\n${lines.join("\n")}\nEOF`;

const text = (value: string) => JSON.stringify(value);

export const TOKEN_RECIPES: readonly TokenRecipe[] = [
  {
    id: "curl",
    label: "curl",
    about: "One request.",
    text: (way) =>
      `curl -sS -x ${quoted(`${scheme(way)}://${way.gateway}`)}${proxyCa(way)} \\\n  --proxy-user ${quoted(`${way.tunnel}:${way.token}`)} \\\n  ${quoted(way.url)}`,
  },
  {
    id: "environment",
    label: "Environment",
    about: "For most programs: curl, git, pip, npm and Go's and Python's libraries read them.",
    text: (way) =>
      `export http_proxy=${quoted(proxy(way))}\nexport https_proxy="$http_proxy"\ncurl -sS${proxyCa(way)} ${quoted(way.url)}`,
  },
  {
    id: "requests",
    label: "Python requests",
    about: "Needs the package requests.",
    text: (way) =>
      script("python3 -", [
        "import requests",
        `proxy = ${text(proxy(way))}`,
        `answer = requests.get(${text(way.url)}, proxies={"http": proxy, "https": proxy}${way.ca ? `, verify=${text(way.ca)}` : ""})`,
        "print(answer.status_code, answer.text)",
      ]),
  },
  {
    id: "httpx",
    label: "Python httpx",
    about: "Needs the package httpx.",
    text: (way) =>
      script("python3 -", [
        "import httpx",
        ...(way.ca
          ? [
              "import ssl",
              `trust = ssl.create_default_context(cafile=${text(way.ca)})`,
              `proxy = httpx.Proxy(${text(proxy(way))}, ssl_context=trust)`,
            ]
          : [`proxy = ${text(proxy(way))}`]),
        "with httpx.Client(proxy=proxy) as client:",
        `    answer = client.get(${text(way.url)})`,
        "    print(answer.status_code, answer.text)",
      ]),
  },
  {
    id: "node",
    label: "Node",
    about: "Needs no package. For an https:// URL the connector does the TLS.",
    text: (way) => {
      const { hostname, port } = new URL(`http://${way.gateway}`);
      return script("node --input-type=module -", [
        `import { get } from "node:${scheme(way)}";`,
        ...(way.ca ? ['import { readFileSync } from "node:fs";'] : []),
        `const url = ${text(way.url)};`,
        `const credentials = Buffer.from(${text(`${way.tunnel}:${way.token}`)}).toString("base64");`,
        "get({",
        `  host: ${text(hostname.replace(/^\[|\]$/g, ""))},`,
        `  port: ${port || 80},`,
        ...(way.ca ? [`  ca: readFileSync(${text(way.ca)}),`] : []),
        "  path: url,",
        '  headers: { host: new URL(url).host, "proxy-authorization": "Basic " + credentials },',
        "}, (answer) => answer.pipe(process.stdout));",
      ]);
    },
  },
  {
    id: "n8n",
    label: "n8n",
    about:
      "HTTP Request node → Options → Add option → Proxy. Other tools with a field for a proxy take the same.",
    text: proxy,
  },
];
