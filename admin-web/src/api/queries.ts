/**
 * What pages look up. The first part of each key is what events name (`events.ts`); data stays until
 * an event says that it is old.
 */
import { infiniteQueryOptions, QueryClient, queryOptions } from "@tanstack/react-query";
import { answer, api } from "./client";
import { Problem } from "./problem";
import { session } from "./session";

/** The first page has no cursor. */
const firstPage = <T>(): T | undefined => undefined;

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
  queryFn: async () => (await answer(api.GET("/api/v1/me/sessions"))).items,
});

export const tunnels = queryOptions({
  queryKey: ["tunnels"],
  queryFn: async () => (await answer(api.GET("/api/v1/admin/tunnel"))).items,
});

export const tunnel = (name: string) =>
  queryOptions({
    queryKey: ["tunnel", name],
    queryFn: () => answer(api.GET("/api/v1/admin/tunnel/{name}", { params: { path: { name } } })),
  });

export const healthHistory = (name: string) =>
  queryOptions({
    queryKey: ["tunnel", name, "history"],
    queryFn: async () => {
      const params = { path: { name } };
      return (await answer(api.GET("/api/v1/admin/tunnel/{name}/health/history", { params })))
        .items;
    },
  });

export const tunnelAudit = (name: string) =>
  infiniteQueryOptions({
    queryKey: ["tunnel", name, "audit"],
    initialPageParam: firstPage<number>(),
    queryFn: ({ pageParam: before }) =>
      answer(
        api.GET("/api/v1/admin/tunnel/{name}/audit", {
          params: { path: { name }, query: { before } },
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
    queryFn: async () =>
      (await answer(api.GET("/api/v1/tunnels", { params: { query: { team } } }))).items,
  });

export const workflows = queryOptions({
  queryKey: ["workflows"],
  queryFn: async () => (await answer(api.GET("/api/v1/workflows"))).items,
});

export const workflow = (id: string) =>
  queryOptions({
    queryKey: ["workflow", id],
    queryFn: () => answer(api.GET("/api/v1/workflows/{id}", { params: { path: { id } } })),
  });

export const runs = (workflow: string) =>
  infiniteQueryOptions({
    queryKey: ["runs", workflow],
    initialPageParam: firstPage<string>(),
    queryFn: ({ pageParam: before }) =>
      answer(
        api.GET("/api/v1/workflows/{id}/runs", {
          params: { path: { id: workflow }, query: { before } },
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
  queryFn: async () => (await answer(api.GET("/api/v1/teams"))).items,
});

export const team = (id: string) =>
  queryOptions({
    queryKey: ["teams", id],
    queryFn: () => answer(api.GET("/api/v1/teams/{id}", { params: { path: { id } } })),
  });

/** For owners. */
export const users = queryOptions({
  queryKey: ["users"],
  queryFn: async () => (await answer(api.GET("/api/v1/users"))).items,
});

export const user = (id: string) =>
  queryOptions({
    queryKey: ["users", id],
    queryFn: () => answer(api.GET("/api/v1/users/{id}", { params: { path: { id } } })),
  });

export const proxyTokens = queryOptions({
  queryKey: ["proxy-tokens"],
  queryFn: async () => (await answer(api.GET("/api/v1/proxy-tokens"))).items,
});

export const apiKeys = queryOptions({
  queryKey: ["api-keys"],
  queryFn: async () => (await answer(api.GET("/api/v1/api-keys"))).items,
});

export const edges = queryOptions({
  queryKey: ["edges"],
  queryFn: () => answer(api.GET("/api/v1/edges")),
});

/** For operators. */
export const joinTokens = queryOptions({
  queryKey: ["join-tokens"],
  queryFn: async () => (await answer(api.GET("/api/v1/edges/join-tokens"))).items,
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
    initialPageParam: firstPage<number>(),
    queryFn: ({ pageParam: before }) =>
      answer(api.GET("/api/v1/audit", { params: { query: { ...filter, before } } })),
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
