/** What of the data each event makes old. */

/** Which queries an event concerns, by the first part of their keys. */
export function concerned(event: string, data: unknown): readonly (readonly string[])[] | "all" {
  switch (event) {
    case "change":
      return ofChange(field(data, "action"), field(data, "subject"));
    case "presence": {
      const names = strings(field(data, "tunnels"));
      return [["tunnels"], ["usable-tunnels"], ["edges"], ...names.map((name) => ["tunnel", name])];
    }
    case "edges":
      return [["edges"]];
    case "usable_tunnels":
      return [["usable-tunnels"]];
    case "run": {
      const [workflow, run] = [field(data, "workflow"), field(data, "run")];
      if (typeof workflow !== "string" || typeof run !== "string") return "all";
      return [
        ["runs", workflow],
        ["run", run],
      ];
    }
    case "resync":
      return "all";
    default:
      return [];
  }
}

/** Who may use which tunnel, and does. */
const USAGE = ["tunnel-usage"] as const;

function ofChange(action: unknown, subject: unknown): readonly (readonly string[])[] | "all" {
  if (typeof action !== "string" || typeof subject !== "string") return "all";
  const always = [["audit"]] as const;
  // Nothing has changed: somebody was refused.
  if (action.endsWith(".fail")) return always;
  switch (action.split(".")[0]) {
    case "tunnel":
      return [...always, ["tunnels"], ["usable-tunnels"], ["tunnel", subject], USAGE];
    case "team":
      // A team that is deleted leaves access lists, and its tokens are revoked.
      return [
        ...always,
        ["teams"],
        ["me"],
        ["usable-tunnels"],
        ["proxy-tokens"],
        USAGE,
        ...(action === "team.delete" ? [["tunnels"], ["tunnel"]] : []),
      ];
    case "workflow":
      return [...always, ["workflows"], ["workflow", subject], ["proxy-tokens"], USAGE];
    case "user":
      return [...always, ["users"], ["teams"], ["me"], ["sessions"]];
    case "session":
      return [...always, ["sessions"]];
    case "api_key":
      return [...always, ["api-keys"]];
    case "proxy_token":
      return [...always, ["proxy-tokens"], USAGE];
    case "token_key":
    case "tenant":
      return always;
    case "edge":
    case "join_token":
      return [...always, ["edges"], ["join-tokens"]];
    default:
      return "all";
  }
}

export function field(data: unknown, name: string): unknown {
  return typeof data === "object" && data !== null ? Reflect.get(data, name) : undefined;
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
