/** What pages change, an operation each. Each rejects with a `Problem`. */
import { answer, api, done, type Schemas } from "./client";

type Body<Name extends keyof Schemas> = Schemas[Name];

const byId = (id: string) => ({ params: { path: { id } } });

export const createTeam = (body: Body<"CreateTeam">) => answer(api.POST("/api/v1/teams", { body }));

/** `etag` is of the version that is changed; somebody else's change since is a `stale` problem. */
const ofVersion = (id: string, etag: string) => ({
  params: { path: { id }, header: { "If-Match": etag } },
});

export const renameTeam = (id: string, body: Body<"RenameTeam">, etag: string) =>
  answer(api.PATCH("/api/v1/teams/{id}", { ...ofVersion(id, etag), body }));

export const deleteTeam = (id: string, force: boolean) =>
  done(api.DELETE("/api/v1/teams/{id}", { params: { path: { id }, query: { force } } }));

type Membership = { team: string; user: string };

export const addMember = ({ team, user }: Membership) =>
  done(api.PUT("/api/v1/teams/{id}/members/{user}", { params: { path: { id: team, user } } }));

export const removeMember = ({ team, user }: Membership) =>
  done(api.DELETE("/api/v1/teams/{id}/members/{user}", { params: { path: { id: team, user } } }));

export const createUser = (body: Body<"CreateUser">) => answer(api.POST("/api/v1/users", { body }));

export const updateUser = (id: string, body: Body<"UpdateUser">, etag: string) =>
  answer(api.PATCH("/api/v1/users/{id}", { ...ofVersion(id, etag), body }));

export const deleteUser = (id: string) => done(api.DELETE("/api/v1/users/{id}", byId(id)));

export const createProxyToken = (body: Body<"CreateProxyToken">) =>
  answer(api.POST("/api/v1/proxy-tokens", { body }));

export const revokeProxyToken = (id: string) =>
  answer(api.DELETE("/api/v1/proxy-tokens/{id}", byId(id)));

export const createApiKey = (body: Body<"CreateApiKey">) =>
  answer(api.POST("/api/v1/api-keys", { body }));

export const revokeApiKey = (id: string) => done(api.DELETE("/api/v1/api-keys/{id}", byId(id)));

export const createJoinToken = () => answer(api.POST("/api/v1/edges/join-tokens"));

export const revokeJoinToken = (id: string) =>
  done(api.DELETE("/api/v1/edges/join-tokens/{id}", byId(id)));

export const removeEdge = (id: string) => done(api.DELETE("/api/v1/edges/{id}", byId(id)));

type InTunnel = { tunnel: string; connector: string };

const ofConnector = ({ tunnel, connector }: InTunnel) => ({
  params: { path: { name: tunnel, connector } },
});

/** While a link moves its slot has two links, at an edge each. */
type InSlot = InTunnel & { slot: number; edge: string };

const ofLink = ({ tunnel, connector, slot, edge }: InSlot) => ({
  params: { path: { name: tunnel, connector, slot }, query: { edge } },
});

export const forgetConnector = (of: InTunnel) =>
  done(api.DELETE("/api/v1/admin/tunnel/{name}/connectors/{connector}", ofConnector(of)));

export const setLogLevel = ({ level, ...of }: InTunnel & { level: Body<"LogLevelBody"> }) =>
  answer(
    api.PUT("/api/v1/admin/tunnel/{name}/connectors/{connector}/log-level", {
      ...ofConnector(of),
      body: { level },
    }),
  );

export const drainLink = (of: InSlot) =>
  answer(
    api.POST("/api/v1/admin/tunnel/{name}/connectors/{connector}/links/{slot}/drain", ofLink(of)),
  );

export const cutLink = (of: InSlot) =>
  answer(api.DELETE("/api/v1/admin/tunnel/{name}/connectors/{connector}/links/{slot}", ofLink(of)));
