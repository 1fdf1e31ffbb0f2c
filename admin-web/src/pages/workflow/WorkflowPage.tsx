/** One workflow: its runs, and its actions to edit. */
import { Button, Stack, Tabs } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { answer, api, done, type Schemas } from "@/api/client";
import { Problem } from "@/api/problem";
import { runs, workflow as workflowQuery, workflows } from "@/api/queries";
import { isStale } from "@/api/version";
import { duration } from "@/lib/time";
import { RunMark } from "@/parts/RunMark";
import { Confirm } from "@/ui/Confirm";
import { Further } from "@/ui/Further";
import { Go } from "@/ui/Go";
import { notify, notifyProblem } from "@/ui/notify";
import { Page } from "@/ui/Page";
import { Dim, Rows } from "@/ui/Rows";
import { Empty, Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";
import { NotFound } from "../frame/NotFound";
import { type Draft, toAction, toDraft } from "./draft";
import { WorkflowForm } from "./WorkflowForm";

type Workflow = Schemas["WorkflowView"];
type RunSummary = Schemas["RunSummary"];

export function WorkflowPage() {
  const { id } = useParams({ from: "/framed/workflows/$id" });
  const { tab } = useSearch({ from: "/framed/workflows/$id" });
  const navigate = useNavigate();
  const { data, error, isPending, refetch } = useQuery(workflowQuery(id));
  if (error instanceof Problem && error.status === 404) return <NotFound />;
  return (
    <Page title={data?.name ?? "Workflow"} actions={data && <RunNow id={id} label="Run now" />}>
      {isPending && <Loading label="Loading the workflow" />}
      {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
      {data && (
        <Tabs
          value={tab ?? "runs"}
          keepMounted={false}
          onChange={(value) =>
            void navigate({
              to: "/workflows/$id",
              params: { id },
              search: value === "edit" ? { tab: "edit" } : {},
            })
          }
        >
          <Tabs.List mb="lg">
            <Tabs.Tab value="runs">Runs</Tabs.Tab>
            <Tabs.Tab value="edit">Edit</Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="runs">
            <Runs id={id} />
          </Tabs.Panel>
          <Tabs.Panel value="edit">
            <Edit key={data.id} workflow={data} />
          </Tabs.Panel>
        </Tabs>
      )}
    </Page>
  );
}

export function RunNow({ id, label }: { id: string; label: string }) {
  const navigate = useNavigate();
  const start = useMutation({
    mutationFn: () => answer(api.POST("/api/v1/workflows/{id}/runs", { params: { path: { id } } })),
    onSuccess: (run) => navigate({ to: "/workflows/$id/runs/$run", params: { id, run: run.id } }),
    onError: (error) => notifyProblem("The run was not started", error),
  });
  return (
    <Button onClick={() => start.mutate()} loading={start.isPending}>
      {label}
    </Button>
  );
}

function Runs({ id }: { id: string }) {
  const list = useInfiniteQuery(runs(id));
  if (list.isPending) return <Loading label="Loading the runs" />;
  if (list.isError) return <ProblemAlert error={list.error} onRetry={() => void list.refetch()} />;
  const all = list.data.pages.flatMap((page) => page.items);
  if (all.length === 0) {
    return (
      <Empty title="No run yet">Press Run now to send the requests and see what comes back.</Empty>
    );
  }
  return (
    <Stack>
      <Rows
        label="Runs"
        kind="run"
        items={all}
        itemKey={(run) => run.id}
        columns={[
          {
            label: "Run",
            cell: (run) => (
              <Go to="/workflows/$id/runs/$run" params={{ id, run: run.id }} className="row-link">
                <RunMark status={run.status} />
              </Go>
            ),
          },
          { label: "Answers", cell: (run) => <Dim>{refusal(run) ?? answers(run)}</Dim> },
          { label: "Took", cell: (run) => <Dim>{run.finished_at ? length(run) : "–"}</Dim> },
          {
            label: "Started",
            cell: (run) => (
              <Dim>
                <When at={run.created_at} />
              </Dim>
            ),
          },
        ]}
      />
      <Further list={list} />
    </Stack>
  );
}

function refusal({ outcomes }: RunSummary): string | undefined {
  return outcomes.find(({ title }) => title)?.title ?? undefined;
}

function answers({ outcomes }: RunSummary): string {
  return outcomes.map(({ status }) => status ?? "–").join(", ");
}

function length(run: RunSummary): string {
  const ms = Date.parse(run.finished_at ?? run.created_at) - Date.parse(run.created_at);
  return ms < 1000 ? `${ms} ms` : duration(ms);
}

function Edit({ workflow }: { workflow: Workflow }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [isAsked, setAsked] = useState(false);
  const initial = useMemo<Draft>(
    () => ({ name: workflow.name, team: workflow.team, actions: workflow.actions.map(toDraft) }),
    [workflow],
  );
  // What others save meanwhile does not replace what is being typed here.
  const [start, setStart] = useState(initial);
  const [etag, setEtag] = useState(workflow.etag);
  const save = useMutation({
    mutationFn: (draft: Draft) =>
      answer(
        api.PUT("/api/v1/workflows/{id}", {
          params: { path: { id: workflow.id }, header: { "If-Match": etag } },
          body: toBody(draft),
        }),
      ),
    onSuccess: (saved) => {
      queries.setQueryData(workflowQuery(workflow.id).queryKey, saved);
      void queries.invalidateQueries(workflows);
      setStart({ name: saved.name, team: saved.team, actions: saved.actions.map(toDraft) });
      setEtag(saved.etag);
      notify("Saved.");
    },
    onError: async (error) => {
      if (!isStale(error)) return;
      const current = await queries.fetchQuery({ ...workflowQuery(workflow.id), staleTime: 0 });
      setEtag(current.etag);
    },
  });
  const remove = useMutation({
    mutationFn: () =>
      done(api.DELETE("/api/v1/workflows/{id}", { params: { path: { id: workflow.id } } })),
    onSuccess: async () => {
      notify(`Workflow ${workflow.name} is deleted.`);
      await navigate({ to: "/workflows" });
      await queries.invalidateQueries(workflows);
    },
  });
  return (
    <Stack>
      <WorkflowForm
        key={start.actions.map(({ key }) => key).join()}
        initial={start}
        action="Save"
        isPending={save.isPending}
        error={save.error}
        call={(draft) => ({
          method: "PUT",
          path: `/api/v1/workflows/${workflow.id}`,
          body: toBody(draft),
        })}
        onSave={(draft) =>
          save.mutateAsync(draft).then(
            () => true,
            () => false,
          )
        }
      >
        <Button variant="default" c="var(--mantine-color-error)" onClick={() => setAsked(true)}>
          Delete the workflow
        </Button>
      </WorkflowForm>
      <Confirm
        opened={isAsked}
        onClose={() => setAsked(false)}
        title={`Delete workflow ${workflow.name}`}
        word={workflow.name}
        action="Delete the workflow"
        isPending={remove.isPending}
        error={remove.error}
        onConfirm={() => remove.mutate()}
      >
        Its runs go with it, and its proxy tokens are revoked. This cannot be undone.
      </Confirm>
    </Stack>
  );
}

const toBody = ({ name, team, actions }: Draft) => ({
  name: name.trim(),
  team,
  actions: actions.map(toAction),
});
