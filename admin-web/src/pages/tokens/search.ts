/** What of the list stands in the URL. */
import { searchText } from "@/lib/fit";

export type TokenSearch = {
  q?: string;
  team?: string;
  /** Live ones only, unless all are asked for. */
  state?: "all";
};

export function tokenSearch(search: Record<string, unknown>): TokenSearch {
  return {
    q: searchText(search.q),
    team: searchText(search.team),
    state: search.state === "all" ? "all" : undefined,
  };
}
