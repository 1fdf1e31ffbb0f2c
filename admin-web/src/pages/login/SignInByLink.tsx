/** Signs in by a link that works once, as `make demo` prints it. */
import { Button, Stack, Text } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { answer, door } from "@/api/client";
import { Go } from "@/ui/Go";
import { ProblemAlert } from "@/ui/states";
import { Door } from "./Door";
import { takeFragment } from "./fragment";
import { begun } from "./signIn";

export function SignInByLink() {
  const [secret] = useState(takeFragment);
  const navigate = useNavigate();
  // By a press of a button: whatever fetches links before people do must not use this one up.
  const submit = useMutation({
    mutationFn: async () => {
      await answer(door.POST("/api/v1/session/link", { body: { secret } }));
      await begun();
    },
    onSuccess: () => navigate({ to: "/" }),
  });
  return (
    <Door title="Sign in by a link">
      <Stack>
        <Text c="dimmed" size="sm">
          This link signs you in once.
        </Text>
        {submit.error && <ProblemAlert error={submit.error} />}
        <Button onClick={() => submit.mutate()} loading={submit.isPending}>
          Sign in
        </Button>
        <Go to="/login">Sign in with a password instead</Go>
      </Stack>
    </Door>
  );
}
