/** Your own account: password and sessions. */
import { Badge, Button, Card, Group, PasswordInput, Stack, Text, Title } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useRouteContext } from "@tanstack/react-router";
import { api, done } from "@/api/client";
import { queryClient, sessions } from "@/api/queries";
import { session as live } from "@/api/session";
import { browser } from "@/lib/text";
import { notify } from "@/ui/notify";
import { Page } from "@/ui/Page";
import { Rows } from "@/ui/Rows";
import { Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";

const MIN_PASSWORD = 8;

export function Account() {
  const { user } = useRouteContext({ from: "/framed" });
  const rights = [
    user.is_operator && "operator of the deployment",
    user.is_owner && "owner of the tenant",
    ...user.permissions,
  ].filter(Boolean);
  return (
    <Page
      title="Your account"
      about={`${user.email}${rights.length > 0 ? ` · ${rights.join(", ")}` : ""}`}
    >
      <Sessions />
      <Password email={user.email} />
    </Page>
  );
}

function Sessions() {
  const { data, error, isPending, refetch } = useQuery(sessions);
  const queries = useQueryClient();
  const end = useMutation({
    mutationFn: (id: string) =>
      done(api.DELETE("/api/v1/me/sessions/{id}", { params: { path: { id } } })),
    onSuccess: () => notify("The session has ended."),
    onSettled: () => queries.invalidateQueries(sessions),
  });
  return (
    <Card withBorder className="card" p="lg">
      <Title order={2}>Sessions</Title>
      <Text size="sm" c="dimmed" mb="sm">
        Where you are signed in. End those that you do not know, then change your password.
      </Text>
      {isPending && <Loading rows={2} />}
      {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
      {end.error && <ProblemAlert error={end.error} />}
      {data && (
        <Rows
          label="Sessions"
          kind="session"
          items={data}
          itemKey={({ id }) => id}
          columns={[
            {
              label: "Where",
              cell: ({ user_agent }) => <span title={user_agent}>{browser(user_agent)}</span>,
            },
            { label: "From", cell: ({ address }) => address || "–" },
            { label: "Signed in", cell: ({ created_at }) => <When at={created_at} /> },
            { label: "Last used", cell: ({ last_used_at }) => <When at={last_used_at} /> },
            {
              label: "Action",
              cell: ({ id, is_current, user_agent }) =>
                is_current ? (
                  <Badge variant="default">This one</Badge>
                ) : (
                  <Button
                    size="xs"
                    variant="default"
                    loading={end.isPending && end.variables === id}
                    onClick={() => end.mutate(id)}
                    aria-label={`End the session of ${browser(user_agent)}`}
                  >
                    End
                  </Button>
                ),
            },
          ]}
        />
      )}
    </Card>
  );
}

function Password({ email }: { email: string }) {
  const navigate = useNavigate();
  const form = useForm({
    mode: "uncontrolled",
    initialValues: { current: "", next: "", again: "" },
    validate: {
      current: (value) => (value ? null : "Enter the password that you have now"),
      next: (value) =>
        [...value].length >= MIN_PASSWORD ? null : `At least ${MIN_PASSWORD} characters`,
      again: (value, values) => (value === values.next ? null : "This is not the same password"),
    },
  });
  const change = useMutation({
    mutationFn: ({ current, next }: { current: string; next: string }) =>
      done(api.PUT("/api/v1/me/password", { body: { current, new: next } })),
    onSuccess: async () => {
      notify("The password is changed. Sign in with the new one.");
      live.signedOut();
      await navigate({ to: "/login" });
      queryClient.clear();
    },
  });
  return (
    <Card withBorder className="card" p="lg">
      <Title order={2}>Password</Title>
      <Text size="sm" c="dimmed" mb="sm">
        A new password ends all your sessions, this one too.
      </Text>
      <form
        onSubmit={form.onSubmit((values) => change.mutate(values))}
        noValidate
        aria-label="Password"
      >
        <Stack maw={420}>
          {change.error && <ProblemAlert error={change.error} />}
          <input type="hidden" autoComplete="username" value={email} readOnly />
          <PasswordInput
            label="Current password"
            autoComplete="current-password"
            visibilityToggleButtonProps={{ "aria-label": "Show the current password" }}
            key={form.key("current")}
            {...form.getInputProps("current")}
          />
          <PasswordInput
            label="New password"
            description={`At least ${MIN_PASSWORD} characters`}
            autoComplete="new-password"
            visibilityToggleButtonProps={{ "aria-label": "Show the new password" }}
            key={form.key("next")}
            {...form.getInputProps("next")}
          />
          <PasswordInput
            label="The new password again"
            autoComplete="new-password"
            visibilityToggleButtonProps={{ "aria-label": "Show the repeated password" }}
            key={form.key("again")}
            {...form.getInputProps("again")}
          />
          <Group>
            <Button type="submit" loading={change.isPending}>
              Change the password
            </Button>
          </Group>
        </Stack>
      </form>
    </Card>
  );
}
