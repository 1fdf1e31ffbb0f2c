/** One user: what they may do, their teams, a new password, the end. */
import { Button, Checkbox, Group, PasswordInput, Stack, Text, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useRouteContext } from "@tanstack/react-router";
import { deleteUser, updateUser } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { Problem } from "@/api/problem";
import { teams, user as userQuery, users } from "@/api/queries";
import { useDraft } from "@/api/version";
import { ApiCall } from "@/parts/ApiCall";
import { DeleteThing } from "@/parts/DeleteThing";
import { Go } from "@/ui/Go";
import { notify } from "@/ui/notify";
import { Page } from "@/ui/Page";
import { type Faults, fieldAtFault, isConflict, names, Refusal, refusals } from "@/ui/refusal";
import { Section } from "@/ui/Section";
import { Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";
import { NotFound } from "../frame/NotFound";
import { isEmail, isPassword, MANAGES_TUNNELS, MIN_PASSWORD } from "./rules";

type User = Schemas["UserView"];

export function UserPage() {
  const { id } = useParams({ from: "/framed/users/users/$id" });
  const { data, error, isPending, refetch } = useQuery(userQuery(id));
  if (error instanceof Problem && error.status === 404) return <NotFound />;
  return (
    <Page
      title={data ? data.name || data.email : "User"}
      about={
        data && (
          <>
            {data.disabled_at && "Disabled. "}
            {data.is_owner && "Owner of the tenant. "}Added <When at={data.created_at} />
            {data.last_login_at ? (
              <>
                , last signed in <When at={data.last_login_at} />
              </>
            ) : (
              ", has never signed in"
            )}
          </>
        )
      }
    >
      {isPending && <Loading label="Loading the user" />}
      {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
      {data && (
        <>
          <Edit user={data} />
          <TeamsOf user={data} />
          <Password user={data} />
          <Delete user={data} />
        </>
      )}
    </Page>
  );
}

type Particulars = {
  readonly name: string;
  readonly email: string;
  readonly isOwner: boolean;
  readonly managesTunnels: boolean;
  readonly isDisabled: boolean;
};

const particulars = (user: User): Particulars => ({
  name: user.name,
  email: user.email,
  isOwner: user.is_owner,
  managesTunnels: user.permissions.includes(MANAGES_TUNNELS),
  isDisabled: user.disabled_at != null,
});

/** What of the draft differs; others may have changed the rest meanwhile. */
function changes(user: User, draft: Particulars): Schemas["UpdateUser"] {
  const before = particulars(user);
  const [name, email] = [draft.name.trim(), draft.email.trim()];
  return {
    ...(name !== before.name && { name }),
    ...(email !== before.email && { email }),
    ...(draft.isOwner !== before.isOwner && { is_owner: draft.isOwner }),
    ...(draft.managesTunnels !== before.managesTunnels && {
      permissions: [
        ...user.permissions.filter((permission) => permission !== MANAGES_TUNNELS),
        ...(draft.managesTunnels ? [MANAGES_TUNNELS] : []),
      ],
    }),
    ...(draft.isDisabled !== before.isDisabled && { disabled: draft.isDisabled }),
  };
}

const PARTICULARS: Faults<"email" | "name"> = {
  email: (problem) =>
    (isConflict(problem) && problem.message.includes("of that name")) || names(/e-mail/)(problem),
  name: names(/the name/),
};

function Edit({ user }: { user: User }) {
  const { user: self } = useRouteContext({ from: "/framed" });
  const isLastOwner = useIsLastOwner(user);
  const queries = useQueryClient();
  const before = particulars(user);
  // Of what is not touched, others' changes stand.
  const draft = useDraft<Partial<Particulars>, User>({
    current: {},
    etag: user.etag,
    send: (touched, etag) => updateUser(user.id, changes(user, { ...before, ...touched }), etag),
    lookUp: () => queries.invalidateQueries(users),
    onSaved: () => notify("Saved."),
  });
  const { save } = draft;
  const value = { ...before, ...draft.value };
  const body = changes(user, value);
  const isChanged = Object.keys(body).length > 0;
  const endsSessions = Object.keys(body).some((field) => field !== "name");
  const fault = fieldAtFault(save.error, PARTICULARS);
  const set = (change: Partial<Particulars>) => draft.set({ ...draft.value, ...change });
  return (
    <Section title="Particulars">
      <form
        aria-label="Particulars"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          if (isChanged && isEmail(value.email)) save.mutate(draft.value);
        }}
      >
        <Stack gap="sm" maw={420}>
          <TextInput
            label="Name"
            description="What people call them; may be empty."
            maxLength={128}
            autoComplete="off"
            value={value.name}
            error={fault === "name" && <Refusal error={save.error} />}
            onChange={(event) => set({ name: event.currentTarget.value })}
          />
          <TextInput
            label="E-mail address"
            type="email"
            autoComplete="off"
            maxLength={254}
            value={value.email}
            error={
              isEmail(value.email)
                ? fault === "email" && <Refusal error={save.error} />
                : "Enter an e-mail address"
            }
            onChange={(event) => set({ email: event.currentTarget.value })}
          />
          <Checkbox
            label="Owner"
            description={
              isLastOwner ? "This is the tenant's last owner." : "May do everything in the tenant."
            }
            disabled={isLastOwner}
            checked={value.isOwner}
            onChange={(event) => set({ isOwner: event.currentTarget.checked })}
          />
          <Checkbox
            label="Manages tunnels"
            description={
              value.isOwner
                ? "Owners do anyway."
                : "TUNNEL_MANAGE: creates tunnels, and says who may use them."
            }
            disabled={value.isOwner}
            checked={value.managesTunnels}
            onChange={(event) => set({ managesTunnels: event.currentTarget.checked })}
          />
          <Checkbox
            label="Disabled"
            description={
              user.id === self.id
                ? "Owners cannot disable themselves."
                : "Nobody comes in as this user; what they have made stays."
            }
            disabled={user.id === self.id}
            checked={value.isDisabled}
            onChange={(event) => set({ isDisabled: event.currentTarget.checked })}
          />
          {save.error && !fault && <ProblemAlert error={save.error} />}
          {endsSessions && (
            <Text size="sm" c="dimmed">
              Saving ends all sessions of the user{user.id === self.id && ", this one as well"}.
            </Text>
          )}
          <Group>
            <Button
              type="submit"
              disabled={!isChanged || !isEmail(value.email)}
              loading={save.isPending}
            >
              Save
            </Button>
            {isChanged && (
              <Button variant="default" onClick={draft.discard} disabled={save.isPending}>
                Discard
              </Button>
            )}
          </Group>
          {isChanged && <ApiCall method="PATCH" path={`/api/v1/users/${user.id}`} body={body} />}
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
    mutationFn: (body: { password: string }) => updateUser(user.id, body, user.etag),
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

function useIsLastOwner(user: User): boolean {
  const all = useQuery(users);
  return user.is_owner && all.isSuccess && all.data.filter(({ is_owner }) => is_owner).length < 2;
}

function Delete({ user }: { user: User }) {
  const { user: self } = useRouteContext({ from: "/framed" });
  const isLastOwner = useIsLastOwner(user);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const hindrance = isLastOwner
    ? "This is the tenant's last owner. Add another one first."
    : user.id === self.id
      ? "Owners cannot delete themselves. Another owner can."
      : undefined;
  return (
    <DeleteThing
      what="user"
      name={user.email}
      about="Their sessions and API keys end and they leave their teams. Proxy tokens that they made go on working."
      hindrance={hindrance}
      remove={() => deleteUser(user.id)}
      onDeleted={async () => {
        await navigate({ to: "/users" });
        queries.removeQueries(userQuery(user.id));
        await Promise.all([queries.invalidateQueries(users), queries.invalidateQueries(teams)]);
      }}
    />
  );
}
