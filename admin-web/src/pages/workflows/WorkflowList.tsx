/** The workflows of the caller's teams. */
import { Group, Select, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { teams, workflows } from "@/api/queries";
import { count } from "@/lib/text";
import { Go, GoButton } from "@/ui/Go";
import { Page } from "@/ui/Page";
import { Dim, Rows } from "@/ui/Rows";
import { Empty, Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";

export function WorkflowList() {
  const { q = "", team } = useSearch({ from: "/framed/workflows" });
  const navigate = useNavigate();
  const list = useQuery(workflows);
  const allTeams = useQuery(teams);
  const all = list.data ?? [];
  const shown = all.filter(
    (workflow) =>
      workflow.name.toLowerCase().includes(q.toLowerCase()) && (!team || workflow.team === team),
  );
  const set = (change: { q?: string; team?: string }) =>
    void navigate({
      to: "/workflows",
      search: (before) => ({ ...before, ...change }),
      replace: true,
    });
  const isEmpty = list.isSuccess && all.length === 0;
  return (
    <Page
      title="Workflows"
      actions={!isEmpty && <GoButton to="/workflows/new">Create a workflow</GoButton>}
    >
      {list.isPending && <Loading label="Loading the workflows" />}
      {list.isError && <ProblemAlert error={list.error} onRetry={() => void list.refetch()} />}
      {isEmpty && (
        <Empty
          title="No workflows yet"
          action={<GoButton to="/workflows/new">Create the first workflow</GoButton>}
        >
          A workflow is a list of HTTP requests that are sent one after the other. A request with
          Use tunnel reaches a private server.
        </Empty>
      )}
      {all.length > 0 && (
        <Group gap="sm" align="flex-end" role="search" aria-label="Workflows">
          <TextInput
            label="Search"
            placeholder="Name"
            type="search"
            data-search
            w={{ base: "100%", xs: 220 }}
            value={q}
            onChange={(event) => set({ q: event.currentTarget.value || undefined })}
          />
          <Select
            label="Team"
            placeholder="Any"
            clearable
            w={190}
            data={(allTeams.data ?? []).map(({ id, name }) => ({ value: id, label: name }))}
            value={team ?? null}
            onChange={(value) => set({ team: value ?? undefined })}
          />
        </Group>
      )}
      {all.length > 0 && shown.length === 0 && (
        <Empty title="No workflow fits">
          {count(all.length, "workflow")} are hidden by the search and the filter.
        </Empty>
      )}
      {shown.length > 0 && (
        <Rows
          label="Workflows"
          kind="workflow"
          items={shown}
          itemKey={({ id }) => id}
          columns={[
            {
              label: "Workflow",
              cell: ({ id, name }) => (
                <Go to="/workflows/$id" params={{ id }} className="row-link" fw={600}>
                  {name}
                </Go>
              ),
            },
            { label: "Team", cell: ({ team_name }) => <Dim>{team_name}</Dim> },
            {
              label: "Actions",
              cell: ({ action_count, tunnels }) => (
                <Dim>
                  {count(action_count, "action")}
                  {tunnels.length > 0 && ` through ${tunnels.join(", ")}`}
                </Dim>
              ),
            },
            {
              label: "Made",
              cell: ({ created_at }) => (
                <Dim>
                  <When at={created_at} />
                </Dim>
              ),
            },
          ]}
        />
      )}
    </Page>
  );
}
