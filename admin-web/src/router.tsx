/** The map: which path shows which page. Pages are fetched when they are first shown. */
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";
import { door } from "./api/client";
import { managesTunnels, me, queryClient } from "./api/queries";
import { session } from "./api/session";
import { searchText } from "./lib/fit";
import { auditSearch } from "./pages/audit/search";
import { Frame } from "./pages/frame/Frame";
import { NotFound } from "./pages/frame/NotFound";
import { PageError } from "./pages/frame/PageError";
import { tokenSearch } from "./pages/tokens/search";
import { listSearch } from "./pages/tunnels/search";

/** A list's search in the URL. */
const nameSearch = (search: Record<string, unknown>): { q?: string } => ({
  q: searchText(search.q),
});

const root = createRootRoute({ component: Outlet, notFoundComponent: NotFound });

const setup = createRoute({
  getParentRoute: () => root,
  path: "/setup",
  component: lazyRouteComponent(() => import("./pages/login/Setup"), "Setup"),
});

const signInByLink = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  component: lazyRouteComponent(() => import("./pages/login/SignInByLink"), "SignInByLink"),
});

const login = createRoute({
  getParentRoute: () => root,
  path: "/login",
  validateSearch: (search: Record<string, unknown>): { to?: string } => {
    const { to } = search;
    // Only paths of this host.
    return typeof to === "string" && /^\/(?![/\\])/.test(to) ? { to } : {};
  },
  component: lazyRouteComponent(() => import("./pages/login/Login"), "Login"),
});

/** Everything that needs a session. */
const framed = createRoute({
  getParentRoute: () => root,
  id: "framed",
  component: Frame,
  errorComponent: PageError,
  notFoundComponent: NotFound,
  beforeLoad: async ({ location }) => {
    if (session.state().kind !== "unknown") {
      return { user: await queryClient.ensureQueryData(me) };
    }
    const { data } = await door.GET("/api/v1/me");
    if (!data?.csrf_token) throw redirect({ to: "/login", search: { to: location.href } });
    session.signedIn(data.id, data.csrf_token);
    queryClient.setQueryData(me.queryKey, data);
    return { user: data };
  },
});

const home = createRoute({
  getParentRoute: () => framed,
  path: "/",
  beforeLoad: ({ context }) => {
    throw redirect({ to: managesTunnels(context.user) ? "/admin/tunnel" : "/workflows" });
  },
});

const ofTunnels = createRoute({
  getParentRoute: () => framed,
  id: "tunnels",
  component: lazyRouteComponent(() => import("./pages/frame/Gate"), "Tunnels"),
});

const tunnels = createRoute({
  getParentRoute: () => ofTunnels,
  path: "/admin/tunnel",
  validateSearch: listSearch,
  component: lazyRouteComponent(() => import("./pages/tunnels/TunnelList"), "TunnelList"),
});

const newTunnel = createRoute({
  getParentRoute: () => ofTunnels,
  path: "/admin/tunnel/new",
  component: lazyRouteComponent(() => import("./pages/tunnel-new/NewTunnel"), "NewTunnel"),
});

const tunnel = createRoute({
  getParentRoute: () => ofTunnels,
  path: "/admin/tunnel/$name",
  component: lazyRouteComponent(() => import("./pages/tunnel/TunnelPage"), "TunnelPage"),
});

const tunnelOverview = createRoute({
  getParentRoute: () => tunnel,
  path: "/",
  validateSearch: (search: Record<string, unknown>): { range?: "30d" } =>
    search.range === "30d" ? { range: "30d" } : {},
  component: lazyRouteComponent(() => import("./pages/tunnel/Overview"), "Overview"),
});

const tunnelConnectors = createRoute({
  getParentRoute: () => tunnel,
  path: "/connectors",
  component: lazyRouteComponent(() => import("./pages/tunnel/Connectors"), "Connectors"),
});

const tunnelAccess = createRoute({
  getParentRoute: () => tunnel,
  path: "/access",
  component: lazyRouteComponent(() => import("./pages/tunnel/AccessTab"), "AccessTab"),
});

const tunnelSecrets = createRoute({
  getParentRoute: () => tunnel,
  path: "/secrets",
  component: lazyRouteComponent(() => import("./pages/tunnel/Secrets"), "Secrets"),
});

const tunnelAudit = createRoute({
  getParentRoute: () => tunnel,
  path: "/audit",
  component: lazyRouteComponent(() => import("./pages/tunnel/AuditTab"), "AuditTab"),
});

const tunnelSettings = createRoute({
  getParentRoute: () => tunnel,
  path: "/settings",
  component: lazyRouteComponent(() => import("./pages/tunnel/Settings"), "Settings"),
});

const workflows = createRoute({
  getParentRoute: () => framed,
  path: "/workflows",
  validateSearch: (search: Record<string, unknown>): { q?: string; team?: string } => ({
    q: searchText(search.q),
    team: searchText(search.team),
  }),
  component: lazyRouteComponent(() => import("./pages/workflows/WorkflowList"), "WorkflowList"),
});

const newWorkflow = createRoute({
  getParentRoute: () => framed,
  path: "/workflows/new",
  component: lazyRouteComponent(() => import("./pages/workflow/NewWorkflow"), "NewWorkflow"),
});

const workflow = createRoute({
  getParentRoute: () => framed,
  path: "/workflows/$id",
  validateSearch: (search: Record<string, unknown>): { tab?: "edit" } =>
    search.tab === "edit" ? { tab: "edit" } : {},
  component: lazyRouteComponent(() => import("./pages/workflow/WorkflowPage"), "WorkflowPage"),
});

const run = createRoute({
  getParentRoute: () => framed,
  path: "/workflows/$id/runs/$run",
  component: lazyRouteComponent(() => import("./pages/run/RunPage"), "RunPage"),
});

const teams = createRoute({
  getParentRoute: () => framed,
  path: "/teams",
  validateSearch: nameSearch,
  component: lazyRouteComponent(() => import("./pages/teams/TeamList"), "TeamList"),
});

const team = createRoute({
  getParentRoute: () => framed,
  path: "/teams/$id",
  component: lazyRouteComponent(() => import("./pages/teams/TeamPage"), "TeamPage"),
});

const ofUsers = createRoute({
  getParentRoute: () => framed,
  id: "users",
  component: lazyRouteComponent(() => import("./pages/frame/Gate"), "Users"),
});

const users = createRoute({
  getParentRoute: () => ofUsers,
  path: "/users",
  validateSearch: nameSearch,
  component: lazyRouteComponent(() => import("./pages/users/UserList"), "UserList"),
});

const user = createRoute({
  getParentRoute: () => ofUsers,
  path: "/users/$id",
  component: lazyRouteComponent(() => import("./pages/users/UserPage"), "UserPage"),
});

const tokens = createRoute({
  getParentRoute: () => framed,
  path: "/tokens",
  validateSearch: tokenSearch,
  component: lazyRouteComponent(() => import("./pages/tokens/TokenList"), "TokenList"),
});

const newToken = createRoute({
  getParentRoute: () => framed,
  path: "/tokens/new",
  component: lazyRouteComponent(() => import("./pages/tokens/NewToken"), "NewToken"),
});

const keys = createRoute({
  getParentRoute: () => framed,
  path: "/keys",
  validateSearch: (search: Record<string, unknown>): { state?: "all" } =>
    search.state === "all" ? { state: "all" } : {},
  component: lazyRouteComponent(() => import("./pages/keys/KeyList"), "KeyList"),
});

const edges = createRoute({
  getParentRoute: () => framed,
  path: "/edges",
  component: lazyRouteComponent(() => import("./pages/edges/Edges"), "Edges"),
});

const audit = createRoute({
  getParentRoute: () => framed,
  path: "/audit",
  validateSearch: auditSearch,
  component: lazyRouteComponent(() => import("./pages/audit/Audit"), "Audit"),
});

const account = createRoute({
  getParentRoute: () => framed,
  path: "/me",
  component: lazyRouteComponent(() => import("./pages/account/Account"), "Account"),
});

const about = createRoute({
  getParentRoute: () => framed,
  path: "/about",
  component: lazyRouteComponent(() => import("./pages/about/About"), "About"),
});

const routeTree = root.addChildren([
  setup,
  signInByLink,
  login,
  framed.addChildren([
    home,
    ofTunnels.addChildren([
      tunnels,
      newTunnel,
      tunnel.addChildren([
        tunnelOverview,
        tunnelConnectors,
        tunnelAccess,
        tunnelSecrets,
        tunnelAudit,
        tunnelSettings,
      ]),
    ]),
    workflows,
    newWorkflow,
    workflow,
    run,
    teams,
    team,
    ofUsers.addChildren([users, user]),
    tokens,
    newToken,
    keys,
    edges,
    audit,
    account,
    about,
  ]),
]);

export const router = createRouter({
  routeTree,
  defaultPreload: "intent",
  scrollRestoration: true,
  defaultErrorComponent: PageError,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
