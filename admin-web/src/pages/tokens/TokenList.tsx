/** Proxy tokens: which programs may send requests through tunnels, and for whom. */
import { Badge, Checkbox, Text } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { revokeProxyToken } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { proxyTokens, teams, workflows } from "@/api/queries";
import { fits } from "@/lib/fit";
import { count } from "@/lib/text";
import { Revoke } from "@/parts/Revoke";
import { RolloutNote } from "@/parts/RolloutNote";
import { TeamFilter } from "@/parts/TeamFilter";
import { isLive, tokenState } from "@/parts/tokens";
import { Find } from "@/ui/Find";
import { Go, GoButton } from "@/ui/Go";
import { Listing } from "@/ui/Listing";
import { Page } from "@/ui/Page";
import { Dim, Moment } from "@/ui/Rows";
import { Empty } from "@/ui/states";
import { useNow, When } from "@/ui/When";
import type { TokenSearch } from "./search";

type Token = Schemas["ProxyTokenView"];

export function TokenList() {
  const search = useSearch({ from: "/framed/tokens" });
  const navigate = useNavigate();
  const queries = useQueryClient();
  const now = useNow();
  const list = useQuery(proxyTokens);
  const [rollout, setRollout] = useState<Schemas["Rollout"]>();
  const all = list.data ?? [];
  const shown = all.filter(
    (token) =>
      fits(token.name, search.q) &&
      (!search.team || token.team === search.team) &&
      (search.state === "all" || isLive(token, now)),
  );
  const set = (change: Partial<TokenSearch>) =>
    void navigate({
      to: "/tokens",
      search: (before) => ({ ...before, ...change }),
      replace: true,
    });
  const isEmpty = list.isSuccess && all.length === 0;
  return (
    <Page
      title="Proxy tokens"
      about="With one, a program of yours sends requests through a tunnel: it is the password of a proxy."
      actions={!isEmpty && <GoButton to="/tokens/new">Create a token</GoButton>}
    >
      {rollout && <RolloutNote rollout={rollout} title="Revoked" />}
      <Listing
        label="Proxy tokens"
        noun="token"
        kind="token"
        list={list}
        shown={shown}
        filters={
          <>
            <Find value={search.q} onChange={(q) => set({ q })} />
            <TeamFilter value={search.team} onChange={(team) => set({ team })} />
            <Checkbox
              label="Also expired and revoked"
              checked={search.state === "all"}
              onChange={(event) => set({ state: event.currentTarget.checked ? "all" : undefined })}
              mb={8}
            />
          </>
        }
        empty={
          <Empty
            title="No proxy tokens yet"
            action={<GoButton to="/tokens/new">Create the first token</GoButton>}
          >
            Workflows of Postern need none. Scripts, notebooks and tools such as n8n use an edge as
            their HTTP proxy, with a tunnel's name as user and a token as password.
          </Empty>
        }
        columns={[
          { label: "Token", cell: ({ name }) => <Text fw={600}>{name}</Text> },
          { label: "Acts for", cell: (token) => <ActsFor token={token} /> },
          { label: "Expires", cell: (token) => <Expiry token={token} now={now} /> },
          { label: "Made", cell: ({ created_at }) => <Moment at={created_at} /> },
          {
            label: "Answers within",
            cell: ({ response_timeout_s: s }) => (
              <Dim>{s == null ? "any time" : count(s, "second")}</Dim>
            ),
          },
          {
            label: "Action",
            cell: (token) =>
              isLive(token, now) && (
                <Revoke
                  what="token"
                  name={token.name}
                  revoke={() => revokeProxyToken(token.id)}
                  onRevoked={async (answer) => {
                    setRollout(answer.rollout);
                    await queries.invalidateQueries(proxyTokens);
                  }}
                >
                  Programs that use it are refused from then on, and their streams are cut. A
                  revoked token never works again.
                </Revoke>
              ),
          },
        ]}
      />
    </Page>
  );
}

function ActsFor({ token }: { token: Token }) {
  const allTeams = useQuery(teams);
  const allWorkflows = useQuery(workflows);
  const team = allTeams.data?.find(({ id }) => id === token.team);
  const workflow = allWorkflows.data?.find(({ id }) => id === token.workflow);
  return (
    <>
      {team ? (
        <Go to="/teams/$id" params={{ id: team.id }} size="sm">
          {team.name}
        </Go>
      ) : (
        <Dim>a team that is gone</Dim>
      )}
      {workflow && (
        <Text size="xs" c="dimmed">
          workflow{" "}
          <Go to="/workflows/$id" params={{ id: workflow.id }} inherit>
            {workflow.name}
          </Go>
        </Text>
      )}
    </>
  );
}

function Expiry({ token, now }: { token: Token; now: Date }) {
  const state = tokenState(token, now);
  if (state === "live") {
    return (
      <Dim>
        <When at={token.expires_at} />
      </Dim>
    );
  }
  return <Badge variant="default">{state}</Badge>;
}
