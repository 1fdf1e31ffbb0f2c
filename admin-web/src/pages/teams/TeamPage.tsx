/** One team: who is in it, what it owns and may use. */
import { Button, Group, Select, Stack, Table, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useRouteContext } from "@tanstack/react-router";
import { useState } from "react";
import { addMember, deleteTeam, removeMember, renameTeam } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { Problem } from "@/api/problem";
import {
  managesTunnels,
  proxyTokens,
  team as teamQuery,
  teams,
  usableTunnels,
  users,
  workflows,
} from "@/api/queries";
import { useDraft } from "@/api/version";
import { count } from "@/lib/text";
import { ApiCall } from "@/parts/ApiCall";
import { DeleteThing } from "@/parts/DeleteThing";
import { HealthMark } from "@/parts/Health";
import { isLive } from "@/parts/tokens";
import { Go } from "@/ui/Go";
import { notify } from "@/ui/notify";
import { Page } from "@/ui/Page";
import { type Faults, fieldAtFault, isConflict, names, Refusal } from "@/ui/refusal";
import { Section } from "@/ui/Section";
import { Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";
import { NotFound } from "../frame/NotFound";

type Team = Schemas["TeamView"];

export function TeamPage() {
  const { id } = useParams({ from: "/framed/teams/$id" });
  const { user } = useRouteContext({ from: "/framed" });
  const { data, error, isPending, refetch } = useQuery(teamQuery(id));
  if (error instanceof Problem && error.status === 404) return <NotFound />;
  const actsForIt = user.is_owner || user.teams.includes(id);
  return (
    <Page
      title={data?.name ?? "Team"}
      about={
        data && (
          <>
            Made <When at={data.created_at} />
          </>
        )
      }
    >
      {isPending && <Loading label="Loading the team" />}
      {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
      {data && (
        <>
          {user.is_owner ? <Members team={data} /> : <MemberCount team={data} />}
          {actsForIt && <Tunnels team={data} />}
          {actsForIt && <Owns team={data} />}
          {user.is_owner && <Rename team={data} />}
          {user.is_owner && <Delete team={data} />}
        </>
      )}
    </Page>
  );
}

function MemberCount({ team }: { team: Team }) {
  return (
    <Section title="Members">
      <Text size="sm">
        {count(team.members.length, "member")}. Owners of the tenant see who they are, and change
        it.
      </Text>
    </Section>
  );
}

function Members({ team }: { team: Team }) {
  const all = useQuery(users);
  const queries = useQueryClient();
  const [chosen, setChosen] = useState<string | null>(null);
  const lookUp = () => queries.invalidateQueries(teams);
  const add = useMutation({
    mutationFn: addMember,
    onSuccess: () => setChosen(null),
    onSettled: lookUp,
  });
  const remove = useMutation({ mutationFn: removeMember, onSettled: lookUp });
  const inIt = (all.data ?? []).filter(({ id }) => team.members.includes(id));
  const others = (all.data ?? []).filter(({ id }) => !team.members.includes(id));
  return (
    <Section title="Members" about="They see and change what the team owns.">
      {all.isPending && <Loading rows={2} />}
      {all.isError && <ProblemAlert error={all.error} onRetry={() => void all.refetch()} />}
      {remove.error && <ProblemAlert error={remove.error} />}
      {all.isSuccess && inIt.length === 0 && (
        <Text size="sm" c="dimmed">
          Nobody is in it. Owners act for every team all the same.
        </Text>
      )}
      {inIt.length > 0 && (
        <Table mb="md" aria-label="Members">
          <Table.Tbody>
            {inIt.map(({ id, email }) => (
              <Table.Tr key={id}>
                <Table.Td className="wrap-anywhere">
                  <Go to="/users/$id" params={{ id }}>
                    {email}
                  </Go>
                </Table.Td>
                <Table.Td ta="right">
                  <Button
                    size="xs"
                    variant="default"
                    loading={remove.isPending && remove.variables.user === id}
                    onClick={() => remove.mutate({ team: team.id, user: id })}
                    aria-label={`Remove ${email}`}
                  >
                    Remove
                  </Button>
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
      {all.isSuccess && (
        <form
          aria-label="Add a member"
          onSubmit={(event) => {
            event.preventDefault();
            if (chosen) add.mutate({ team: team.id, user: chosen });
          }}
        >
          <Stack gap="sm">
            {add.error && <ProblemAlert error={add.error} />}
            <Group align="flex-end" gap="sm">
              <Select
                label="Add a member"
                placeholder={others.length > 0 ? "Choose a user" : "Everybody is in it"}
                searchable
                clearable
                disabled={others.length === 0}
                w={{ base: "100%", xs: 320 }}
                nothingFoundMessage="There is no such user"
                data={others.map(({ id, email }) => ({ value: id, label: email }))}
                value={chosen}
                onChange={setChosen}
              />
              <Button type="submit" variant="default" disabled={!chosen} loading={add.isPending}>
                Add
              </Button>
            </Group>
            {chosen && <ApiCall method="PUT" path={`/api/v1/teams/${team.id}/members/${chosen}`} />}
          </Stack>
        </form>
      )}
    </Section>
  );
}

function Tunnels({ team }: { team: Team }) {
  const { user } = useRouteContext({ from: "/framed" });
  const list = useQuery(usableTunnels(team.id));
  return (
    <Section title="Tunnels that it may use">
      {list.isPending && <Loading rows={2} />}
      {list.isError && <ProblemAlert error={list.error} onRetry={() => void list.refetch()} />}
      {list.data?.length === 0 && (
        <Text size="sm" c="dimmed">
          None. Whoever manages tunnels gives access on a tunnel's page.
        </Text>
      )}
      <Stack gap="xs">
        {list.data?.map(({ name, display_name, health }) => (
          <Group key={name} justify="space-between">
            {managesTunnels(user) ? (
              <Go to="/admin/tunnel/$name/access" params={{ name }}>
                {display_name}
              </Go>
            ) : (
              <Text size="sm">{display_name}</Text>
            )}
            <HealthMark health={health} />
          </Group>
        ))}
      </Stack>
    </Section>
  );
}

/** What belongs to the team. */
function useOwned(team: Team) {
  const allWorkflows = useQuery(workflows);
  const allTokens = useQuery(proxyTokens);
  return {
    error: allWorkflows.error ?? allTokens.error,
    isPending: allWorkflows.isPending || allTokens.isPending,
    workflows: (allWorkflows.data ?? []).filter((workflow) => workflow.team === team.id),
    tokens: (allTokens.data ?? []).filter((token) => token.team === team.id && isLive(token)),
  };
}

function Owns({ team }: { team: Team }) {
  const owned = useOwned(team);
  return (
    <Section title="What it owns">
      {owned.isPending && <Loading rows={2} />}
      {owned.error && <ProblemAlert error={owned.error} />}
      {!owned.isPending && !owned.error && (
        <Group gap="xl">
          <Go to="/workflows" search={{ team: team.id }}>
            {count(owned.workflows.length, "workflow")}
          </Go>
          <Go to="/tokens" search={{ team: team.id }}>
            {count(owned.tokens.length, "proxy token")}
          </Go>
        </Group>
      )}
    </Section>
  );
}

const FAULTS: Faults<"name"> = {
  name: (problem) => isConflict(problem) || names(/the name/)(problem),
};

function Rename({ team }: { team: Team }) {
  const queries = useQueryClient();
  const draft = useDraft({
    current: team.name,
    etag: team.etag,
    send: (name, etag) => renameTeam(team.id, { name: name.trim() }, etag),
    lookUp: () => queries.invalidateQueries(teams),
    onSaved: () => notify("Saved."),
  });
  const { value: name, save } = draft;
  const isChanged = name.trim() !== team.name;
  const fault = fieldAtFault(save.error, FAULTS);
  return (
    <Section title="Rename">
      <form
        aria-label="Name"
        onSubmit={(event) => {
          event.preventDefault();
          if (isChanged && name.trim()) save.mutate(name);
        }}
      >
        <Stack maw={420} gap="sm">
          <TextInput
            label="Name"
            maxLength={128}
            value={name}
            error={name.trim() ? fault && <Refusal error={save.error} /> : "Give the team a name"}
            onChange={(event) => draft.set(event.currentTarget.value)}
          />
          {save.error && !fault && <ProblemAlert error={save.error} />}
          <Group>
            <Button type="submit" disabled={!isChanged || !name.trim()} loading={save.isPending}>
              Save
            </Button>
          </Group>
          {isChanged && (
            <ApiCall
              method="PATCH"
              path={`/api/v1/teams/${team.id}`}
              body={{ name: name.trim() }}
            />
          )}
        </Stack>
      </form>
    </Section>
  );
}

function Delete({ team }: { team: Team }) {
  const owned = useOwned(team);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const workflowCount = owned.workflows.length;
  return (
    <DeleteThing
      what="team"
      name={team.name}
      about="The team leaves every tunnel's access, and its proxy tokens are revoked."
      hindrance={
        workflowCount > 0
          ? `The team owns ${count(workflowCount, "workflow")}. Move them to another team, or delete them, first.`
          : undefined
      }
      remove={(force) => deleteTeam(team.id, force)}
      onDeleted={async () => {
        await navigate({ to: "/teams" });
        queries.removeQueries(teamQuery(team.id));
        await queries.invalidateQueries(teams);
      }}
    >
      {owned.tokens.length > 0
        ? `${count(owned.tokens.length, "proxy token stops", "proxy tokens stop")} working at once.`
        : "It has no live proxy token."}
    </DeleteThing>
  );
}
