/** What of the list stands in the URL, and which tunnels fit it. */
import type { Schemas } from "@/api/client";
import { HEALTH_WORDS, type HealthWord } from "@/parts/Health";

export type ListSearch = {
  q?: string;
  health?: HealthWord;
  region?: string;
  team?: string;
};

type Tunnel = Schemas["TunnelSummary"];

export function listSearch(search: Record<string, unknown>): ListSearch {
  const text = (key: string) => {
    const value = search[key];
    return typeof value === "string" && value ? value : undefined;
  };
  return {
    q: text("q"),
    health: HEALTH_WORDS.find((word) => word === search.health),
    region: text("region"),
    team: text("team"),
  };
}

/** The tunnels that fit, worst health first, then by name. */
export function fitting(tunnels: readonly Tunnel[], search: ListSearch): Tunnel[] {
  const words = (search.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  return tunnels
    .filter((tunnel) => {
      const text = `${tunnel.name} ${tunnel.display_name}`.toLowerCase();
      return (
        words.every((word) => text.includes(word)) &&
        (!search.health || tunnel.health.health === search.health) &&
        (!search.region || tunnel.links.some((link) => link.region === search.region)) &&
        (!search.team || mayUse(tunnel.access, search.team))
      );
    })
    .sort((a, b) => urgency(a) - urgency(b) || a.name.localeCompare(b.name));
}

export function mayUse(access: Schemas["AccessBody"], team: string): boolean {
  return access.mode === "any_team" || access.teams.includes(team);
}

function urgency(tunnel: Tunnel): number {
  const order = { Down: 0, Degraded: 1, Healthy: 2, Inactive: 2 } as const;
  return order[tunnel.health.health];
}

/** Regions in which some tunnel holds a link. */
export function regions(tunnels: readonly Tunnel[]): string[] {
  const all = tunnels.flatMap((tunnel) => tunnel.links.map((link) => link.region));
  return [...new Set(all.filter((region) => region != null))].sort();
}
