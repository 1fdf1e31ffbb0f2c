import { Box } from "@mantine/core";
import { useRouter } from "@tanstack/react-router";
import { ProblemAlert } from "@/ui/states";

export function PageError({ error, reset }: { error: unknown; reset: () => void }) {
  const router = useRouter();
  const retry = () => {
    reset();
    void router.invalidate();
  };
  return (
    <Box p="md">
      <ProblemAlert error={error} onRetry={retry} />
    </Box>
  );
}
