/** The teams that the caller may see: all of the tenant, or their own. */
import { Button, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useRouteContext, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { createTeam } from "@/api/changes";
import { managesTunnels, teams } from "@/api/queries";
import { fits } from "@/lib/fit";
import { count } from "@/lib/text";
import { ApiCall } from "@/parts/ApiCall";
import { Find } from "@/ui/Find";
import { FormDialog } from "@/ui/FormDialog";
import { Go } from "@/ui/Go";
import { Listing } from "@/ui/Listing";
import { Page } from "@/ui/Page";
import { Dim, Moment } from "@/ui/Rows";
import { type Faults, fieldAtFault, isConflict, names, refusals } from "@/ui/refusal";
import { Empty } from "@/ui/states";

export function TeamList() {
  const { user } = useRouteContext({ from: "/framed" });
  const { q } = useSearch({ from: "/framed/teams" });
  const navigate = useNavigate();
  const list = useQuery(teams);
  const [isAsked, setAsked] = useState(false);
  const all = list.data ?? [];
  const shown = all
    .filter((team) => fits(team.name, q))
    .sort((a, b) => a.name.localeCompare(b.name));
  const isEmpty = list.isSuccess && all.length === 0;
  const create = (label: string) =>
    user.is_owner && <Button onClick={() => setAsked(true)}>{label}</Button>;
  return (
    <Page
      title="Teams"
      about={
        managesTunnels(user)
          ? "A team owns workflows and proxy tokens, and may use tunnels."
          : "Teams that you are in."
      }
      actions={!isEmpty && create("Create a team")}
    >
      <Listing
        label="Teams"
        noun="team"
        kind="team"
        list={list}
        shown={shown}
        filters={
          <Find
            value={q}
            onChange={(text) => void navigate({ to: "/teams", search: { q: text }, replace: true })}
          />
        }
        empty={
          <Empty
            title={managesTunnels(user) ? "No teams yet" : "You are in no team"}
            action={create("Create the first team")}
          >
            Workflows and proxy tokens belong to teams, and access to tunnels is given to teams.{" "}
            {!user.is_owner && "An owner of your tenant can put you in one."}
          </Empty>
        }
        columns={[
          {
            label: "Team",
            cell: ({ id, name }) => (
              <Go to="/teams/$id" params={{ id }} className="row-link" fw={600}>
                {name}
              </Go>
            ),
          },
          {
            label: "Members",
            cell: ({ members }) => <Dim>{count(members.length, "member")}</Dim>,
          },
          { label: "Made", cell: ({ created_at }) => <Moment at={created_at} /> },
        ]}
      />
      {isAsked && <CreateTeam onClose={() => setAsked(false)} />}
    </Page>
  );
}

const FAULTS: Faults<"name"> = {
  name: (problem) => isConflict(problem) || names(/the name/)(problem),
};

function CreateTeam({ onClose }: { onClose: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const form = useForm({
    initialValues: { name: "" },
    validate: { name: (name) => (name.trim() ? null : "Give the team a name") },
  });
  const create = useMutation({
    mutationFn: createTeam,
    onSuccess: async ({ id }) => {
      await queries.invalidateQueries(teams);
      await navigate({ to: "/teams/$id", params: { id } });
    },
    onError: (error) => form.setErrors(refusals(error, FAULTS)),
  });
  const body = { name: form.values.name.trim() };
  return (
    <FormDialog
      opened
      onClose={onClose}
      title="Create a team"
      action="Create the team"
      isPending={create.isPending}
      error={fieldAtFault(create.error, FAULTS) ? undefined : create.error}
      onSubmit={form.onSubmit(() => create.mutate(body))}
    >
      <TextInput label="Name" maxLength={128} data-autofocus {...form.getInputProps("name")} />
      <ApiCall method="POST" path="/api/v1/teams" body={body} />
    </FormDialog>
  );
}
