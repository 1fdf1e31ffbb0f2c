/** One user: what they may do, their teams, a new password, the end. */
import { Button, Checkbox, Group, PasswordInput, Stack, Text } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useRouteContext } from "@tanstack/react-router";
import { useState } from "react";
import { deleteUser, updateUser } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { Problem } from "@/api/problem";
import { teams, user as userQuery, users } from "@/api/queries";
import { ApiCall } from "@/parts/ApiCall";
import { Confirm } from "@/ui/Confirm";
import { Go } from "@/ui/Go";
import { notify } from "@/ui/notify";
import { Page } from "@/ui/Page";
import { type Faults, fieldAtFault, names, refusals } from "@/ui/refusal";
import { Section } from "@/ui/Section";
import { Empty, Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";
import { NotFound } from "../frame/NotFound";
import { isPassword, MANAGES_TUNNELS, MIN_PASSWORD } from "./rules";

type User = Schemas["UserView"];

export function UserPage() {
  const { user } = useRouteContext({ from: "/framed" });
  if (!user.is_owner) {
    return (
      <Page title="User">
        <Empty title="You may not see users">Owners of your tenant look after them.</Empty>
      </Page>
    );
  }
  return <Shown />;
}

function Shown() {
  const { id } = useParams({ from: "/framed/users/$id" });
  const { data, error, isPending, refetch } = useQuery(userQuery(id));
  if (error instanceof Problem && error.status === 404) return <NotFound />;
  return (
    <Page
      title={data?.email ?? "User"}
      about={
        data && (
          <>
            {data.is_owner && "Owner of the tenant. "}Added <When at={data.created_at} />
          </>
        )
      }
    >
      {isPending && <Loading label="Loading the user" />}
      {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
      {data && (
        <>
          <Permissions user={data} />
          <TeamsOf user={data} />
          <Password user={data} />
          <Delete user={data} />
        </>
      )}
    </Page>
  );
}

function Permissions({ user }: { user: User }) {
  const queries = useQueryClient();
  const manages = user.permissions.includes(MANAGES_TUNNELS);
  const [draft, setDraft] = useState<boolean>();
  const isChecked = draft ?? manages;
  const body = {
    permissions: [
      ...user.permissions.filter((permission) => permission !== MANAGES_TUNNELS),
      ...(isChecked ? [MANAGES_TUNNELS] : []),
    ],
  };
  const save = useMutation({
    mutationFn: () => updateUser(user.id, body),
    onSuccess: async () => {
      await queries.invalidateQueries(users);
      setDraft(undefined);
      notify("Saved.");
    },
  });
  if (user.is_owner) {
    return (
      <Section title="Permissions">
        <Text size="sm">Owners may do everything in their tenant.</Text>
      </Section>
    );
  }
  return (
    <Section title="Permissions" about="Besides using what their teams own.">
      <form
        aria-label="Permissions"
        onSubmit={(event) => {
          event.preventDefault();
          save.mutate();
        }}
      >
        <Stack gap="sm" align="flex-start">
          <Checkbox
            label="Manages tunnels"
            description="TUNNEL_MANAGE: creates tunnels, and says who may use them."
            checked={isChecked}
            onChange={(event) => setDraft(event.currentTarget.checked)}
          />
          {save.error && <ProblemAlert error={save.error} />}
          <Text size="sm" c="dimmed">
            Saving ends all sessions of the user.
          </Text>
          <Button type="submit" disabled={isChecked === manages} loading={save.isPending}>
            Save
          </Button>
          <ApiCall method="PATCH" path={`/api/v1/users/${user.id}`} body={body} />
        </Stack>
      </form>
    </Section>
  );
}

function TeamsOf({ user }: { user: User }) {
  const all = useQuery(teams);
  const own = (all.data ?? []).filter(({ members }) => members.includes(user.id));
  return (
    <Section title="Teams" about="Members are added and removed on a team's page.">
      {all.isPending && <Loading rows={1} />}
      {all.isError && <ProblemAlert error={all.error} onRetry={() => void all.refetch()} />}
      {all.isSuccess && own.length === 0 && (
        <Text size="sm" c="dimmed">
          In no team.
        </Text>
      )}
      <Group gap="md">
        {own.map(({ id, name }) => (
          <Go key={id} to="/teams/$id" params={{ id }}>
            {name}
          </Go>
        ))}
      </Group>
    </Section>
  );
}

const FAULTS: Faults<"password"> = { password: names(/password/) };

function Password({ user }: { user: User }) {
  const form = useForm({
    mode: "uncontrolled",
    initialValues: { password: "" },
    validate: {
      password: (password) => (isPassword(password) ? null : `At least ${MIN_PASSWORD} characters`),
    },
  });
  const save = useMutation({
    mutationFn: (body: { password: string }) => updateUser(user.id, body),
    onSuccess: () => {
      form.reset();
      notify("The password is set.");
    },
    onError: (error) => form.setErrors(refusals(error, FAULTS)),
  });
  return (
    <Section
      title="New password"
      about="For somebody who has forgotten theirs. It ends all sessions of the user."
    >
      <form
        aria-label="New password"
        noValidate
        onSubmit={form.onSubmit((values) => save.mutate(values))}
      >
        <Stack maw={420} gap="sm" align="stretch">
          <input type="hidden" autoComplete="username" value={user.email} readOnly />
          <PasswordInput
            label="Password"
            description={`At least ${MIN_PASSWORD} characters`}
            autoComplete="new-password"
            visibilityToggleButtonProps={{ "aria-label": "Show the password" }}
            key={form.key("password")}
            {...form.getInputProps("password")}
          />
          {save.error && !fieldAtFault(save.error, FAULTS) && <ProblemAlert error={save.error} />}
          <Group>
            <Button type="submit" variant="default" loading={save.isPending}>
              Set the password
            </Button>
          </Group>
        </Stack>
      </form>
    </Section>
  );
}

function Delete({ user }: { user: User }) {
  const { user: self } = useRouteContext({ from: "/framed" });
  const all = useQuery(users);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [isAsked, setAsked] = useState(false);
  const remove = useMutation({
    mutationFn: () => deleteUser(user.id),
    onSuccess: async () => {
      notify(`${user.email} is deleted.`);
      await navigate({ to: "/users" });
      queries.removeQueries(userQuery(user.id));
      await Promise.all([queries.invalidateQueries(users), queries.invalidateQueries(teams)]);
    },
  });
  const isLastOwner =
    user.is_owner && all.isSuccess && all.data.filter(({ is_owner }) => is_owner).length < 2;
  const hindrance = isLastOwner
    ? "This is the tenant's last owner. Add another one first."
    : user.id === self.id
      ? "Owners cannot delete themselves. Another owner can."
      : undefined;
  return (
    <Section title="Delete">
      <Text size="sm" mb="md" id="delete-user-why">
        {hindrance ??
          "Their sessions and API keys end and they leave their teams. Proxy tokens that they made go on working."}
      </Text>
      <Button
        variant="default"
        c={hindrance ? undefined : "var(--mantine-color-error)"}
        w="fit-content"
        disabled={hindrance !== undefined}
        aria-describedby="delete-user-why"
        onClick={() => setAsked(true)}
      >
        Delete the user
      </Button>
      <Confirm
        opened={isAsked}
        onClose={() => setAsked(false)}
        title={`Delete ${user.email}`}
        word={user.email}
        action="Delete the user"
        isPending={remove.isPending}
        error={remove.error}
        onConfirm={() => remove.mutate()}
      >
        This cannot be undone.
      </Confirm>
    </Section>
  );
}
