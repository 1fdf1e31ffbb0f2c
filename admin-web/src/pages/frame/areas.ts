import { type Me, managesTunnels } from "@/api/queries";

/** Whoever starts connectors must know what their firewalls let out. */
export const seesEdges = (user: Me) => managesTunnels(user) || user.is_operator;

/** What stands in the menu, for this user. */
export function areas(user: Me) {
  return [
    ...(managesTunnels(user) ? [{ to: "/admin/tunnel", label: "Tunnels" } as const] : []),
    { to: "/workflows", label: "Workflows" } as const,
    { to: "/tokens", label: "Proxy tokens" } as const,
    { to: "/teams", label: "Teams" } as const,
    ...(user.is_owner ? [{ to: "/users", label: "Users" } as const] : []),
    ...(seesEdges(user) ? [{ to: "/edges", label: "Edges" } as const] : []),
    ...(user.is_owner ? [{ to: "/audit", label: "Audit" } as const] : []),
    { to: "/keys", label: "API keys" } as const,
    { to: "/me", label: "Your account" } as const,
    { to: "/about", label: "About" } as const,
  ];
}
