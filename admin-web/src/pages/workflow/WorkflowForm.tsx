/** Name, team and the ordered actions of a workflow. */
import { Button, Card, Group, Select, Stack, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useBlocker, useRouteContext } from "@tanstack/react-router";
import { type FormEvent, useRef, useState } from "react";
import { teams } from "@/api/queries";
import { ApiCall } from "@/parts/ApiCall";
import { ProblemAlert } from "@/ui/states";
import { ActionForm } from "./ActionForm";
import { type ActionDraft, type Draft, faults, isFaultless, newAction } from "./draft";

const MAX_ACTIONS = 100;

export function WorkflowForm({
  initial,
  isNew,
  action,
  isPending,
  error,
  call,
  onSave,
  children,
}: {
  initial: Draft;
  isNew?: boolean;
  /** What stands on the button. */
  action: string;
  isPending: boolean;
  error: unknown;
  /** What saving sends. */
  call: (draft: Draft) => Parameters<typeof ApiCall>[0];
  /** Resolves to true once it is saved. */
  onSave: (draft: Draft) => Promise<boolean>;
  children?: React.ReactNode;
}) {
  const { user } = useRouteContext({ from: "/framed" });
  const allTeams = useQuery(teams);
  const [typed, setDraft] = useState(initial);
  const [isTried, setTried] = useState(false);
  const isSaved = useRef(false);
  const isChanged = typed !== initial;
  useBlocker({
    shouldBlockFn: () =>
      isChanged && !isSaved.current && !window.confirm("Leave without saving the workflow?"),
    enableBeforeUnload: () => isChanged && !isSaved.current,
  });
  const own = (allTeams.data ?? []).filter(({ id }) => user.is_owner || user.teams.includes(id));
  // The first team, until one is chosen: also one that was made since the form was opened.
  const draft = typed.team ? typed : { ...typed, team: own[0]?.id ?? "" };
  const isComplete =
    draft.name.trim() !== "" &&
    draft.team !== "" &&
    draft.actions.every((each) => isFaultless(faults(each)));
  const set = (change: Partial<Draft>) => setDraft({ ...draft, ...change });
  const change = (key: string, next: ActionDraft) =>
    set({ actions: draft.actions.map((each) => (each.key === key ? next : each)) });
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!isComplete) return;
    isSaved.current = true;
    isSaved.current = await onSave(draft);
  };
  return (
    <form onSubmit={(event) => void submit(event)} noValidate aria-label="Workflow">
      <Stack>
        <Card withBorder className="card" p="lg">
          <Group align="flex-start" gap="md">
            <TextInput
              label="Name"
              maxLength={128}
              flex="1 1 16rem"
              value={draft.name}
              error={isTried && !draft.name.trim() ? "Give the workflow a name" : undefined}
              onChange={(event) => set({ name: event.currentTarget.value })}
            />
            <Select
              label="Team"
              description={
                isNew && allTeams.isSuccess && own.length === 0
                  ? "You are in no team; an owner can put you in one"
                  : undefined
              }
              placeholder="Choose a team"
              allowDeselect={false}
              w={220}
              data={own.map(({ id, name }) => ({ value: id, label: name }))}
              value={draft.team || null}
              error={isTried && !draft.team ? "Choose the team that owns it" : undefined}
              onChange={(team) => set({ team: team ?? "" })}
            />
          </Group>
        </Card>
        {draft.actions.map((each, index) => (
          <ActionForm
            key={each.key}
            draft={each}
            faults={isTried ? faults(each) : {}}
            number={index + 1}
            of={draft.actions.length}
            team={draft.team}
            onChange={(next) => change(each.key, next)}
            onMove={(by) => set({ actions: moved(draft.actions, index, index + by) })}
            onRemove={() => set({ actions: draft.actions.filter(({ key }) => key !== each.key) })}
          />
        ))}
        <Group>
          <Button
            variant="default"
            disabled={draft.actions.length >= MAX_ACTIONS}
            onClick={() =>
              set({ actions: [...draft.actions, newAction(draft.actions.length + 1)] })
            }
          >
            Add an action
          </Button>
        </Group>
        {error != null && <ProblemAlert error={error} />}
        {isComplete && <ApiCall {...call(draft)} />}
        <Group>
          <Button type="submit" loading={isPending} disabled={!isNew && !isChanged}>
            {action}
          </Button>
          {children}
        </Group>
      </Stack>
    </form>
  );
}

function moved<T>(list: readonly T[], from: number, to: number): T[] {
  const next = [...list];
  next.splice(to, 0, ...next.splice(from, 1));
  return next;
}
