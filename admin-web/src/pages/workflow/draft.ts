/** A workflow as a form holds it: texts, as they were typed. What is wrong is said next to each. */
import type { Schemas } from "@/api/client";

type Action = Schemas["Action"];

export const CONTENT_TYPES = ["none", "json", "form", "xml", "text", "other"] as const;
export type ContentType = (typeof CONTENT_TYPES)[number];

export type ActionDraft = {
  /** For React; tells actions apart while they move. */
  readonly key: string;
  readonly name: string;
  readonly method: string;
  readonly url: string;
  readonly headers: readonly HeaderDraft[];
  readonly contentType: ContentType;
  readonly mediaType: string;
  readonly body: string;
  readonly usesTunnel: boolean;
  readonly tunnel: string;
  readonly timeout: number;
  readonly responseLimit: number;
  readonly caCertificates: string;
};

export type HeaderDraft = { readonly key: string; readonly name: string; readonly value: string };

export type Draft = {
  readonly name: string;
  readonly team: string;
  readonly actions: readonly ActionDraft[];
};

/** What is wrong, by the field's name. */
export type Faults = Partial<
  Record<
    | "name"
    | "url"
    | "method"
    | "body"
    | "mediaType"
    | "tunnel"
    | "timeout"
    | "headers"
    | "responseLimit",
    string
  >
>;

const RESPONSE_LIMIT = 256 * 1024;
const MAX_RESPONSE = 4 * 1024 * 1024;
const MAX_TIMEOUT_S = 300;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

let keys = 0;
export const newKey = () => `${++keys}`;

export function newAction(number: number): ActionDraft {
  return {
    key: newKey(),
    name: `Request ${number}`,
    method: "GET",
    url: "",
    headers: [],
    contentType: "none",
    mediaType: "",
    body: "",
    usesTunnel: false,
    tunnel: "",
    timeout: 30,
    responseLimit: RESPONSE_LIMIT,
    caCertificates: "",
  };
}

export function toDraft(action: Action): ActionDraft {
  const { payload, content_type: type } = action;
  const known = CONTENT_TYPES.find((each) => each === type && each !== "none" && each !== "other");
  const byPayload: ContentType = typeof payload === "string" ? "text" : "json";
  return {
    key: newKey(),
    name: action.name,
    method: action.method ?? "GET",
    url: action.url,
    headers: Object.entries(action.headers ?? {}).map(([name, value]) => ({
      key: newKey(),
      name,
      value,
    })),
    contentType: payload == null ? "none" : type ? (known ?? "other") : byPayload,
    mediaType: known ? "" : (type ?? ""),
    body:
      payload == null
        ? ""
        : typeof payload === "string"
          ? payload
          : JSON.stringify(payload, undefined, 2),
    usesTunnel: action.use_tunnel != null,
    tunnel: action.use_tunnel ?? "",
    timeout: action.timeout ?? 30,
    responseLimit: action.response_limit ?? RESPONSE_LIMIT,
    caCertificates: action.ca_certificates ?? "",
  };
}

export function toAction(draft: ActionDraft): Action {
  const hasBody = draft.contentType !== "none";
  const headers = draft.headers.filter(({ name }) => name.trim());
  return {
    type: "http",
    name: draft.name.trim(),
    method: draft.method.trim().toUpperCase(),
    url: draft.url.trim(),
    headers: Object.fromEntries(headers.map(({ name, value }) => [name.trim(), value])),
    ...(hasBody ? { payload: payload(draft), content_type: contentType(draft) } : {}),
    timeout: draft.timeout,
    response_limit: draft.responseLimit,
    ...(draft.usesTunnel ? { use_tunnel: draft.tunnel } : {}),
    ...(draft.caCertificates.trim() ? { ca_certificates: draft.caCertificates } : {}),
  };
}

const contentType = ({ contentType, mediaType }: ActionDraft) =>
  contentType === "other" ? mediaType.trim() : contentType;

function payload({ contentType, body }: ActionDraft): unknown {
  if (contentType !== "json" && !(contentType === "form" && body.trim().startsWith("{")))
    return body;
  return JSON.parse(body);
}

export function faults(draft: ActionDraft): Faults {
  return {
    name: draft.name.trim() ? undefined : "Give the action a name",
    method:
      TOKEN.test(draft.method.trim()) && !/^connect$/i.test(draft.method.trim())
        ? undefined
        : "Not a method",
    url: urlFault(draft.url.trim()),
    body: bodyFault(draft),
    mediaType:
      draft.contentType === "other" && !draft.mediaType.includes("/")
        ? "Such as text/csv"
        : undefined,
    tunnel: draft.usesTunnel && !draft.tunnel ? "Choose a tunnel" : undefined,
    timeout:
      draft.timeout >= 1 && draft.timeout <= MAX_TIMEOUT_S
        ? undefined
        : `1 to ${MAX_TIMEOUT_S} seconds`,
    responseLimit:
      draft.responseLimit >= 0 && draft.responseLimit <= MAX_RESPONSE ? undefined : "At most 4 MiB",
    headers: draft.headers.every(({ name }) => !name.trim() || TOKEN.test(name.trim()))
      ? undefined
      : "A header's name has letters, digits and - only",
  };
}

export function isFaultless(found: Faults): boolean {
  return Object.values(found).every((fault) => fault === undefined);
}

function urlFault(text: string): string | undefined {
  if (!text) return "Enter a URL";
  if (!/^https?:\/\//i.test(text)) return "Begin with http:// or https://";
  if (!URL.canParse(text)) return "This is no URL";
  const url = new URL(text);
  if (url.username || url.password)
    return "Send credentials in an Authorization header, not in the URL";
  return undefined;
}

function bodyFault(draft: ActionDraft): string | undefined {
  try {
    payload(draft);
    return undefined;
  } catch {
    return "This is not valid JSON";
  }
}
