/** First run: the owner chooses a password by the link that `postern up` printed. */
import { Button, PasswordInput, Stack, Text, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { answer, door } from "@/api/client";
import { Go } from "@/ui/Go";
import { Loading, ProblemAlert } from "@/ui/states";
import { Door } from "./Door";
import { takeFragment } from "./fragment";
import { begun } from "./signIn";

const MIN_PASSWORD = 8;

export function Setup() {
  const [secret] = useState(takeFragment);
  const navigate = useNavigate();
  const link = useQuery({
    queryKey: ["set-up-link"],
    queryFn: () => answer(door.POST("/api/v1/setup/link", { body: { secret } })),
    retry: false,
  });
  const form = useForm({
    mode: "uncontrolled",
    initialValues: { password: "", again: "" },
    validate: {
      password: (value) =>
        [...value].length >= MIN_PASSWORD ? null : `At least ${MIN_PASSWORD} characters`,
      again: (value, values) =>
        value === values.password ? null : "This is not the same password",
    },
  });
  const submit = useMutation({
    mutationFn: async ({ password }: { password: string }) => {
      await answer(door.POST("/api/v1/setup", { body: { secret, password } }));
      await begun();
    },
    onSuccess: () => navigate({ to: "/" }),
  });
  if (link.isPending) {
    return (
      <Door title="Set up Postern">
        <Loading rows={3} />
      </Door>
    );
  }
  if (link.isError) {
    return (
      <Door title="Set up Postern">
        <Stack>
          <ProblemAlert error={link.error} onRetry={() => void link.refetch()} />
          <Go to="/login">Sign in instead</Go>
        </Stack>
      </Door>
    );
  }
  return (
    <Door title="Set up Postern">
      <form onSubmit={form.onSubmit((values) => submit.mutate(values))} noValidate>
        <Stack>
          <Text c="dimmed" size="sm">
            Choose the password of the first owner. This link works once.
          </Text>
          {submit.error && <ProblemAlert error={submit.error} />}
          <TextInput
            label="E-mail address"
            value={link.data.email}
            readOnly
            autoComplete="username"
          />
          <PasswordInput
            label="Password"
            description={`At least ${MIN_PASSWORD} characters`}
            autoComplete="new-password"
            visibilityToggleButtonProps={{ "aria-label": "Show the password" }}
            key={form.key("password")}
            {...form.getInputProps("password")}
          />
          <PasswordInput
            label="The same password again"
            autoComplete="new-password"
            visibilityToggleButtonProps={{ "aria-label": "Show the repeated password" }}
            key={form.key("again")}
            {...form.getInputProps("again")}
          />
          <Button type="submit" loading={submit.isPending}>
            Set the password and sign in
          </Button>
        </Stack>
      </form>
    </Door>
  );
}
