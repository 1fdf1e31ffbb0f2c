/** A new proxy token: for whom, for how long; then the token, inside commands that work when pasted. */
import {
  Button,
  Group,
  Input,
  NumberInput,
  SegmentedControl,
  Select,
  Stack,
  TextInput,
} from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useRouteContext } from "@tanstack/react-router";
import { useId } from "react";
import { createProxyToken } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { proxyTokens, teams, workflows } from "@/api/queries";
import { ApiCall } from "@/parts/ApiCall";
import { RolloutNote } from "@/parts/RolloutNote";
import { useSecretGuard } from "@/parts/ShownOnce";
import { GoButton } from "@/ui/Go";
import { Page } from "@/ui/Page";
import { type Faults, fieldAtFault, names, refusals } from "@/ui/refusal";
import { Section } from "@/ui/Section";
import { Empty, Loading, ProblemAlert } from "@/ui/states";
import { UseToken } from "./UseToken";

const MAX_DAYS = 365;
const DEFAULT_DAYS = 90;
const MAX_TIMEOUT_S = 3_600;

export function NewToken() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const create = useMutation({
    mutationFn: createProxyToken,
    onSuccess: () => queries.invalidateQueries(proxyTokens),
  });
  const keep = useSecretGuard(create.data !== undefined, "token");
  const leave = () => {
    keep();
    void navigate({ to: "/tokens" });
  };
  return (
    <Page
      title={create.data ? `Token ${create.data.name}` : "Create a proxy token"}
      about="For programs that send requests through a tunnel themselves."
    >
      {create.data ? (
        <>
          {create.data.rollout.pending.length > 0 && (
            <RolloutNote rollout={create.data.rollout} title="Not every edge knows it yet" />
          )}
          <UseToken token={create.data} />
          <Group>
            <Button onClick={leave}>I have kept the token</Button>
          </Group>
        </>
      ) : (
        <Form create={create} />
      )}
    </Page>
  );
}

const FAULTS: Faults<"name" | "days" | "timeout" | "owner"> = {
  name: names(/the name/),
  days: names(/days/),
  timeout: names(/response_timeout/),
  owner: (problem) =>
    ["not_found", "forbidden", "conflict"].includes(problem.code) ||
    names(/team or a workflow/)(problem),
};

type Create = {
  isPending: boolean;
  error: Error | null;
  mutate: (body: Schemas["CreateProxyToken"], options: { onError: (error: Error) => void }) => void;
};

function Form({ create }: { create: Create }) {
  const { user } = useRouteContext({ from: "/framed" });
  const allTeams = useQuery(teams);
  const allWorkflows = useQuery(workflows);
  const kindLabel = useId();
  const own = (allTeams.data ?? []).filter(({ id }) => user.is_owner || user.teams.includes(id));
  const form = useForm<{
    name: string;
    kind: "team" | "workflow";
    owner: string | null;
    days: number | string;
    timeout: number | string;
  }>({
    initialValues: { name: "", kind: "team", owner: null, days: DEFAULT_DAYS, timeout: "" },
    validate: {
      name: (name) => (name.trim() ? null : "Say what the token is for"),
      owner: (owner, { kind }) => (owner ? null : `Choose the ${kind} for which it acts`),
      days: (days) => (isWhole(days, MAX_DAYS) ? null : `A whole number from 1 to ${MAX_DAYS}`),
      timeout: (timeout) =>
        timeout === "" || isWhole(timeout, MAX_TIMEOUT_S)
          ? null
          : `A whole number from 1 to ${MAX_TIMEOUT_S}, or nothing`,
    },
  });
  const { values } = form;
  // Who has one team only need not choose.
  const owner = values.owner ?? (values.kind === "team" && own.length === 1 ? own[0]?.id : null);
  const body: Schemas["CreateProxyToken"] = {
    name: values.name.trim(),
    ...(values.kind === "team" ? { team: owner } : { workflow: owner }),
    expires_in_days: Number(values.days),
    ...(values.timeout === "" ? {} : { response_timeout_s: Number(values.timeout) }),
  };
  if (allTeams.isPending || allWorkflows.isPending) return <Loading />;
  const error = allTeams.error ?? allWorkflows.error;
  if (error) return <ProblemAlert error={error} onRetry={() => void allTeams.refetch()} />;
  if (own.length === 0) {
    return (
      <Empty title="You are in no team">
        A token acts for a team. An owner of your tenant can create one, or put you in one.
      </Empty>
    );
  }
  const data =
    values.kind === "team"
      ? own.map(({ id, name }) => ({ value: id, label: name }))
      : (allWorkflows.data ?? []).map(({ id, name }) => ({ value: id, label: name }));
  const submit = () =>
    create.mutate(body, { onError: (refused) => form.setErrors(refusals(refused, FAULTS)) });
  return (
    <Section title="The token">
      <form
        noValidate
        aria-label="Create a proxy token"
        onSubmit={(event) => {
          if (owner !== values.owner) form.setFieldValue("owner", owner ?? null);
          form.onSubmit(submit)(event);
        }}
      >
        <Stack maw={520}>
          <TextInput
            label="Name"
            description="What it is for: people revoke tokens by it."
            placeholder="Nightly import"
            maxLength={128}
            data-autofocus
            {...form.getInputProps("name")}
          />
          <div>
            <Input.Label labelElement="div" id={kindLabel}>
              Acts for
            </Input.Label>
            <SegmentedControl
              aria-labelledby={kindLabel}
              data={[
                { value: "team", label: "A team" },
                { value: "workflow", label: "A workflow" },
              ]}
              value={values.kind}
              onChange={(kind) =>
                form.setValues({ kind: kind === "team" ? "team" : "workflow", owner: null })
              }
            />
          </div>
          <Select
            label={values.kind === "team" ? "Team" : "Workflow"}
            description={
              values.kind === "team"
                ? "It may use the tunnels that the team may use."
                : "The same, and it ends with the workflow."
            }
            placeholder={data.length === 0 ? "There is none" : "Choose"}
            searchable
            allowDeselect={false}
            data={data}
            {...form.getInputProps("owner")}
            value={owner ?? null}
          />
          <NumberInput
            label="Good for"
            suffix=" days"
            min={1}
            max={MAX_DAYS}
            clampBehavior="none"
            allowDecimal={false}
            hideControls
            {...form.getInputProps("days")}
          />
          <NumberInput
            label="Longest wait for an answer to begin"
            description="Then 504 origin_timeout. Empty: as long as the server may take."
            suffix=" seconds"
            clampBehavior="none"
            allowDecimal={false}
            hideControls
            {...form.getInputProps("timeout")}
          />
          {create.error && !fieldAtFault(create.error, FAULTS) && (
            <ProblemAlert error={create.error} />
          )}
          <Group>
            <Button type="submit" loading={create.isPending}>
              Create the token
            </Button>
            <GoButton to="/tokens" variant="default">
              Cancel
            </GoButton>
          </Group>
          <ApiCall method="POST" path="/api/v1/proxy-tokens" body={body} />
        </Stack>
      </form>
    </Section>
  );
}

function isWhole(value: number | string, most: number): boolean {
  const number = Number(value);
  return value !== "" && Number.isInteger(number) && number >= 1 && number <= most;
}
