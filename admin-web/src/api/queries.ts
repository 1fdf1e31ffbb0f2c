/**
 * What pages look up. The first part of each key is what events name (`events.ts`); data stays until
 * an event says that it is old.
 */
import { infiniteQueryOptions, QueryClient, queryOptions } from "@tanstack/react-query";
import { answer, api } from "./client";
import { Problem } from "./problem";
import { session } from "./session";

/** The first page has no cursor. */
const firstPage = (): string | undefined => undefined;

/** Items on a page of a list that is looked up as a whole. */
const PAGE = 500;
/** Items of a list that is looked up as a whole, at most. */
const MOST = 10_000;

/** The items of all pages of a list, up to `MOST`. */
export async function whole<T>(
  page: (query: {
    limit: number;
    cursor?: string;
  }) => Promise<{ items: T[]; next?: string | null }>,
): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  do {
    const { items: more, next } = await page({ limit: PAGE, cursor });
    items.push(...more);
    cursor = next ?? undefined;
  } while (cursor && items.length < MOST);
  return items;
}

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5 * 60_000,
      retry: (failures, error) =>
        failures < 2 && error instanceof Problem && (error.status === 0 || error.status === 503),
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
});

export const me = queryOptions({
  queryKey: ["me"],
  queryFn: async () => {
    const me = await answer(api.GET("/api/v1/me"));
    if (me.csrf_token) session.signedIn(me.id, me.csrf_token);
    return me;
  },
});

export const sessions = queryOptions({
  queryKey: ["sessions"],
  queryFn: () => whole((query) => answer(api.GET("/api/v1/me/sessions", { params: { query } }))),
});

export const tunnels = queryOptions({
  queryKey: ["tunnels"],
  queryFn: () => whole((query) => answer(api.GET("/api/v1/admin/tunnel", { params: { query } }))),
});

export const tunnel = (name: string) =>
  queryOptions({
    queryKey: ["tunnel", name],
    queryFn: () => answer(api.GET("/api/v1/admin/tunnel/{name}", { params: { path: { name } } })),
  });

/** Who may use the tunnel, and which of their workflows do. */
export const tunnelUsage = (name: string) =>
  queryOptions({
    queryKey: ["tunnel-usage", name],
    queryFn: () =>
      answer(api.GET("/api/v1/admin/tunnel/{name}/usage", { params: { path: { name } } })),
  });

export const healthHistory = (name: string) =>
  queryOptions({
    queryKey: ["tunnel", name, "history"],
    queryFn: () => {
      const path = { name };
      return whole((query) =>
        answer(api.GET("/api/v1/admin/tunnel/{name}/health/history", { params: { path, query } })),
      );
    },
  });

export type Span = "1h" | "24h" | "30d";

/** Edges report every few seconds, and no event tells of it. */
const TRAFFIC_EVERY_MS = 10_000;

export const traffic = (name: string, span: Span) =>
  queryOptions({
    queryKey: ["tunnel", name, "traffic", span],
    queryFn: () =>
      answer(
        api.GET("/api/v1/admin/tunnel/{name}/traffic", {
          params: { path: { name }, query: { span } },
        }),
      ),
    placeholderData: (before) => before,
    refetchInterval: TRAFFIC_EVERY_MS,
  });

export const failures = (name: string) =>
  queryOptions({
    queryKey: ["tunnel", name, "failures"],
    queryFn: async () => {
      const params = { path: { name } };
      return (await answer(api.GET("/api/v1/admin/tunnel/{name}/failures", { params }))).items;
    },
    refetchInterval: TRAFFIC_EVERY_MS,
  });

export const tunnelAudit = (name: string) =>
  infiniteQueryOptions({
    queryKey: ["tunnel", name, "audit"],
    initialPageParam: firstPage(),
    queryFn: ({ pageParam: cursor }) =>
      answer(
        api.GET("/api/v1/admin/tunnel/{name}/audit", {
          params: { path: { name }, query: { cursor } },
        }),
      ),
    getNextPageParam: (page) => page.next ?? undefined,
  });

export const about = queryOptions({
  queryKey: ["about"],
  queryFn: () => answer(api.GET("/api/v1/about")),
});

/** Tunnels that a team may use. */
export const usableTunnels = (team: string) =>
  queryOptions({
    queryKey: ["usable-tunnels", team],
    queryFn: () =>
      whole((page) => answer(api.GET("/api/v1/tunnels", { params: { query: { team, ...page } } }))),
  });

export const workflows = queryOptions({
  queryKey: ["workflows"],
  queryFn: () => whole((query) => answer(api.GET("/api/v1/workflows", { params: { query } }))),
});

export const workflow = (id: string) =>
  queryOptions({
    queryKey: ["workflow", id],
    queryFn: () => answer(api.GET("/api/v1/workflows/{id}", { params: { path: { id } } })),
  });

export const runs = (workflow: string) =>
  infiniteQueryOptions({
    queryKey: ["runs", workflow],
    initialPageParam: firstPage(),
    queryFn: ({ pageParam: cursor }) =>
      answer(
        api.GET("/api/v1/workflows/{id}/runs", {
          params: { path: { id: workflow }, query: { cursor } },
        }),
      ),
    getNextPageParam: (page) => page.next ?? undefined,
  });

export const run = (id: string) =>
  queryOptions({
    queryKey: ["run", id],
    queryFn: () => answer(api.GET("/api/v1/runs/{id}", { params: { path: { id } } })),
  });

export const teams = queryOptions({
  queryKey: ["teams"],
  queryFn: () => whole((query) => answer(api.GET("/api/v1/teams", { params: { query } }))),
});

export const team = (id: string) =>
  queryOptions({
    queryKey: ["teams", id],
    queryFn: () => answer(api.GET("/api/v1/teams/{id}", { params: { path: { id } } })),
  });

/** For owners. */
export const users = queryOptions({
  queryKey: ["users"],
  queryFn: () => whole((query) => answer(api.GET("/api/v1/users", { params: { query } }))),
});

export const user = (id: string) =>
  queryOptions({
    queryKey: ["users", id],
    queryFn: () => answer(api.GET("/api/v1/users/{id}", { params: { path: { id } } })),
  });

export const proxyTokens = queryOptions({
  queryKey: ["proxy-tokens"],
  queryFn: () =>
    whole((page) =>
      answer(api.GET("/api/v1/proxy-tokens", { params: { query: { state: "all", ...page } } })),
    ),
});

export const apiKeys = queryOptions({
  queryKey: ["api-keys"],
  queryFn: () =>
    whole((page) =>
      answer(api.GET("/api/v1/api-keys", { params: { query: { state: "all", ...page } } })),
    ),
});

export const edges = queryOptions({
  queryKey: ["edges"],
  queryFn: () => answer(api.GET("/api/v1/edges", { params: { query: { limit: PAGE } } })),
});

/** For operators. */
export const joinTokens = queryOptions({
  queryKey: ["join-tokens"],
  queryFn: () =>
    whole((page) =>
      answer(
        api.GET("/api/v1/edges/join-tokens", { params: { query: { state: "all", ...page } } }),
      ),
    ),
});

export type AuditFilter = {
  readonly action?: string;
  readonly actor?: string;
  readonly subject?: string;
  /** RFC 3339, as `until`. */
  readonly from?: string;
  readonly until?: string;
};

/** For owners. */
export const audit = (filter: AuditFilter) =>
  infiniteQueryOptions({
    queryKey: ["audit", filter],
    initialPageParam: firstPage(),
    queryFn: ({ pageParam: cursor }) =>
      answer(api.GET("/api/v1/audit", { params: { query: { ...filter, cursor } } })),
    getNextPageParam: (page) => page.next ?? undefined,
  });

/** Follows the whole chain: no event makes it old, people ask for it. */
export const auditVerdict = queryOptions({
  queryKey: ["audit-verdict"],
  queryFn: () => answer(api.GET("/api/v1/audit/verify")),
});

export type Run = Awaited<ReturnType<NonNullable<ReturnType<typeof run>["queryFn"]>>>;

export type Me = Awaited<ReturnType<NonNullable<(typeof me)["queryFn"]>>>;

/** May the user create and change tunnels? */
export function managesTunnels(user: Pick<Me, "is_owner" | "permissions">): boolean {
  return user.is_owner || user.permissions.includes("TUNNEL_MANAGE");
}
