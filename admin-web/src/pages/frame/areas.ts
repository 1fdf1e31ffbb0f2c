import { type Me, managesTunnels } from "@/api/queries";

/** What stands in the menu, for this user. */
export function areas(user: Me) {
  return [
    ...(managesTunnels(user) ? [{ to: "/admin/tunnel", label: "Tunnels" } as const] : []),
    { to: "/workflows", label: "Workflows" } as const,
    { to: "/me", label: "Your account" } as const,
    { to: "/about", label: "About" } as const,
  ];
}
