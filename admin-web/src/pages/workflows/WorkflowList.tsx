import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { workflows } from "@/api/queries";
import { fits } from "@/lib/fit";
import { count } from "@/lib/text";
import { TeamFilter } from "@/parts/TeamFilter";
import { Find } from "@/ui/Find";
import { Go, GoButton } from "@/ui/Go";
import { Listing } from "@/ui/Listing";
import { Page } from "@/ui/Page";
import { Dim, Moment } from "@/ui/Rows";
import { Empty } from "@/ui/states";

export function WorkflowList() {
  const { q, team } = useSearch({ from: "/framed/workflows" });
  const navigate = useNavigate();
  const list = useQuery(workflows);
  const all = list.data ?? [];
  const shown = all.filter(
    (workflow) => fits(workflow.name, q) && (!team || workflow.team === team),
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
      <Listing
        label="Workflows"
        noun="workflow"
        kind="workflow"
        list={list}
        shown={shown}
        filters={
          <>
            <Find value={q} onChange={(text) => set({ q: text })} />
            <TeamFilter value={team} onChange={(value) => set({ team: value })} />
          </>
        }
        empty={
          <Empty
            title="No workflows yet"
            action={<GoButton to="/workflows/new">Create the first workflow</GoButton>}
          >
            A workflow is a list of HTTP requests that are sent one after the other. A request with
            Use tunnel reaches a private server.
          </Empty>
        }
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
          { label: "Made", cell: ({ created_at }) => <Moment at={created_at} /> },
        ]}
      />
    </Page>
  );
}
