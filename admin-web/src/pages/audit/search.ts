/** What of the audit log stands in the URL, and what of it the API is asked. */
import type { AuditFilter } from "@/api/queries";
import { searchText } from "@/lib/fit";

export type AuditSearch = {
  /** An area, or an action. */
  action?: string;
  actor?: string;
  subject?: string;
  /** Days in the reader's zone, as `2026-01-31`; `until` is the last one. */
  from?: string;
  until?: string;
};

/** What the log tells of, by the first part of an action. */
export const AREAS = [
  { value: "tunnel", label: "Tunnels" },
  { value: "team", label: "Teams" },
  { value: "user", label: "Users" },
  { value: "session", label: "Sessions" },
  { value: "workflow", label: "Workflows" },
  { value: "proxy_token", label: "Proxy tokens" },
  { value: "api_key", label: "API keys" },
  { value: "edge", label: "Edges" },
  { value: "join_token", label: "Join tokens" },
  { value: "tenant", label: "Tenants" },
  { value: "token_key", label: "Keys that sign" },
] as const;

export function auditSearch(search: Record<string, unknown>): AuditSearch {
  return {
    action: searchText(search.action),
    actor: searchText(search.actor),
    subject: searchText(search.subject),
    from: day(search.from),
    until: day(search.until),
  };
}

function day(value: unknown): string | undefined {
  const text = searchText(value);
  return text && /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(text))
    ? text
    : undefined;
}

export function auditFilter({ from, until, ...same }: AuditSearch): AuditFilter {
  return { ...same, from: from && begin(from, 0), until: until && begin(until, 1) };
}

/** When a day begins here, or one some days later. */
function begin(day: string, later: number): string {
  const date = new Date(`${day}T00:00:00`);
  date.setDate(date.getDate() + later);
  return date.toISOString();
}
