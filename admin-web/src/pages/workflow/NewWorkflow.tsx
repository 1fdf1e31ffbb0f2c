import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { answer, api } from "@/api/client";
import { teams, workflows } from "@/api/queries";
import { Page } from "@/ui/Page";
import { Loading, ProblemAlert } from "@/ui/states";
import { type Draft, newAction, toAction } from "./draft";
import { WorkflowForm } from "./WorkflowForm";

export function NewWorkflow() {
  const all = useQuery(teams);
  return (
    <Page
      title="Create a workflow"
      about="HTTP requests that are sent one after the other, until one gets no answer."
    >
      {all.isPending && <Loading />}
      {all.isError && <ProblemAlert error={all.error} onRetry={() => void all.refetch()} />}
      {all.isSuccess && <Form />}
    </Page>
  );
}

function Form() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [initial] = useState<Draft>(() => ({ name: "", team: "", actions: [newAction(1)] }));
  const create = useMutation({
    mutationFn: (draft: Draft) => answer(api.POST("/api/v1/workflows", { body: toBody(draft) })),
    onSuccess: () => queries.invalidateQueries(workflows),
  });
  const save = async (draft: Draft) => {
    const created = await create.mutateAsync(draft).catch(() => undefined);
    if (created) void navigate({ to: "/workflows/$id", params: { id: created.id } });
    return created !== undefined;
  };
  return (
    <WorkflowForm
      initial={initial}
      isNew
      action="Create the workflow"
      isPending={create.isPending}
      error={create.error}
      call={(draft) => ({ method: "POST", path: "/api/v1/workflows", body: toBody(draft) })}
      onSave={save}
    />
  );
}

const toBody = ({ name, team, actions }: Draft) => ({
  name: name.trim(),
  team,
  actions: actions.map(toAction),
});
