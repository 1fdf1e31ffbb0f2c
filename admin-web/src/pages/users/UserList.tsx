/** Everybody in the tenant, for its owners. */
import { Badge, Button, Checkbox, Group, PasswordInput, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { createUser } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { teams, users } from "@/api/queries";
import { fits } from "@/lib/fit";
import { ApiCall } from "@/parts/ApiCall";
import { Find } from "@/ui/Find";
import { FormDialog } from "@/ui/FormDialog";
import { Go } from "@/ui/Go";
import { Listing } from "@/ui/Listing";
import { Page } from "@/ui/Page";
import { Dim, Moment } from "@/ui/Rows";
import { type Faults, fieldAtFault, isConflict, names, refusals } from "@/ui/refusal";
import { isEmail, isPassword, MANAGES_TUNNELS, MIN_PASSWORD } from "./rules";

export function UserList() {
  const { q } = useSearch({ from: "/framed/users/users" });
  const navigate = useNavigate();
  const list = useQuery(users);
  const allTeams = useQuery(teams);
  const [isAsked, setAsked] = useState(false);
  const all = list.data ?? [];
  const shown = all
    .filter((user) => fits(`${user.email} ${user.name}`, q))
    .sort((a, b) => a.email.localeCompare(b.email));
  const teamsOf = (id: string) =>
    (allTeams.data ?? []).filter(({ members }) => members.includes(id)).map(({ name }) => name);
  return (
    <Page
      title="Users"
      about="People who may sign in. Teams say what they work with, permissions what else they may do."
      actions={<Button onClick={() => setAsked(true)}>Add a user</Button>}
    >
      <Listing
        label="Users"
        noun="user"
        kind="user"
        list={list}
        shown={shown}
        filters={
          <Find
            value={q}
            placeholder="Name or e-mail address"
            onChange={(text) => void navigate({ to: "/users", search: { q: text }, replace: true })}
          />
        }
        empty={null}
        columns={[
          {
            label: "User",
            cell: ({ id, email, name, disabled_at }) => (
              <>
                <Go to="/users/$id" params={{ id }} className="row-link" fw={600}>
                  {email}
                </Go>
                {name && <Dim>{name}</Dim>}
                {disabled_at && <Badge variant="default">Disabled</Badge>}
              </>
            ),
          },
          { label: "May", cell: (user) => <Rights user={user} /> },
          { label: "Teams", cell: ({ id }) => <Dim>{teamsOf(id).join(", ") || "–"}</Dim> },
          { label: "Added", cell: ({ created_at }) => <Moment at={created_at} /> },
        ]}
      />
      {isAsked && <AddUser onClose={() => setAsked(false)} />}
    </Page>
  );
}

function Rights({ user }: { user: Schemas["UserView"] }) {
  if (user.is_owner) return <Badge variant="default">Owner</Badge>;
  if (user.permissions.length === 0) return <Dim>What their teams may</Dim>;
  return (
    <Group gap={4}>
      {user.permissions.map((permission) => (
        <Badge key={permission} variant="default">
          {permission === MANAGES_TUNNELS ? "Manages tunnels" : permission}
        </Badge>
      ))}
    </Group>
  );
}

const FAULTS: Faults<"email" | "password"> = {
  email: (problem) => isConflict(problem) || names(/e-mail/)(problem),
  password: names(/password/),
};

function AddUser({ onClose }: { onClose: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const form = useForm({
    initialValues: { email: "", password: "", isOwner: false, managesTunnels: false },
    validate: {
      email: (email) => (isEmail(email) ? null : "Enter an e-mail address"),
      password: (password) => (isPassword(password) ? null : `At least ${MIN_PASSWORD} characters`),
    },
  });
  const create = useMutation({
    mutationFn: createUser,
    onSuccess: async ({ id }) => {
      await queries.invalidateQueries(users);
      await navigate({ to: "/users/$id", params: { id } });
    },
    onError: (error) => form.setErrors(refusals(error, FAULTS)),
  });
  const { values } = form;
  const body: Schemas["CreateUser"] = {
    email: values.email.trim(),
    password: values.password,
    is_owner: values.isOwner,
    permissions: values.managesTunnels && !values.isOwner ? [MANAGES_TUNNELS] : [],
  };
  return (
    <FormDialog
      opened
      onClose={onClose}
      title="Add a user"
      action="Add the user"
      isPending={create.isPending}
      error={fieldAtFault(create.error, FAULTS) ? undefined : create.error}
      onSubmit={form.onSubmit(() => create.mutate(body))}
    >
      <TextInput
        label="E-mail address"
        type="email"
        autoComplete="off"
        data-autofocus
        {...form.getInputProps("email")}
      />
      <PasswordInput
        label="First password"
        description={`At least ${MIN_PASSWORD} characters. Tell them; they can change it on Your account.`}
        autoComplete="new-password"
        visibilityToggleButtonProps={{ "aria-label": "Show the password" }}
        {...form.getInputProps("password")}
      />
      <Checkbox
        label="Owner"
        description="May do everything in the tenant."
        {...form.getInputProps("isOwner", { type: "checkbox" })}
      />
      <Checkbox
        label="Manages tunnels"
        description="TUNNEL_MANAGE: creates tunnels, and says who may use them."
        disabled={values.isOwner}
        {...form.getInputProps("managesTunnels", { type: "checkbox" })}
      />
      <ApiCall method="POST" path="/api/v1/users" body={{ ...body, password: "…" }} />
    </FormDialog>
  );
}
