import { Button, PasswordInput, Stack, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation } from "@tanstack/react-query";
import { ProblemAlert } from "@/ui/states";
import { signIn } from "./signIn";

export function SignInForm({ email, onDone }: { email?: string; onDone: () => void }) {
  const form = useForm({
    mode: "uncontrolled",
    initialValues: { email: email ?? "", password: "" },
    validate: {
      email: (value) => (value.trim() ? null : "Enter your e-mail address"),
      password: (value) => (value ? null : "Enter your password"),
    },
  });
  const submit = useMutation({
    mutationFn: (values: { email: string; password: string }) =>
      signIn(values.email, values.password),
    onSuccess: onDone,
  });
  return (
    <form onSubmit={form.onSubmit((values) => submit.mutate(values))} noValidate>
      <Stack>
        {submit.error && <ProblemAlert error={submit.error} />}
        <TextInput
          label="E-mail address"
          type="email"
          autoComplete="username"
          key={form.key("email")}
          {...form.getInputProps("email")}
          readOnly={email !== undefined}
          data-autofocus={email === undefined || undefined}
        />
        <PasswordInput
          label="Password"
          autoComplete="current-password"
          visibilityToggleButtonProps={{ "aria-label": "Show the password" }}
          key={form.key("password")}
          {...form.getInputProps("password")}
          data-autofocus={email !== undefined || undefined}
        />
        <Button type="submit" loading={submit.isPending}>
          Sign in
        </Button>
      </Stack>
    </form>
  );
}
