import { Stack, Text, Title } from "@mantine/core";
import { useEffect } from "react";
import { Go } from "@/ui/Go";

export function NotFound() {
  useEffect(() => {
    document.title = "Not found · Postern";
  }, []);
  return (
    <Stack component="main" align="center" py={80} px="md" gap="sm">
      <Title order={1}>There is no such page</Title>
      <Text c="dimmed" ta="center" className="wrap-anywhere">
        Nothing is at {location.pathname}. It may have been renamed or deleted.
      </Text>
      <Go to="/">Go home</Go>
    </Stack>
  );
}
