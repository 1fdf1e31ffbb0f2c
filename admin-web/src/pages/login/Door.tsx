/** The frame of the pages before anybody is signed in. */
import { Box, Card, Group, Stack, Text, Title } from "@mantine/core";
import { type ReactNode, useEffect } from "react";

export function Door({ title, children }: { title: string; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Postern`;
  }, [title]);
  return (
    <Box component="main" px="md" pt="12vh" pb="md" maw={460} mx="auto">
      <Stack gap="lg">
        <Logo />
        <Card withBorder className="card" p="lg">
          <Title order={1} mb="md">
            {title}
          </Title>
          {children}
        </Card>
      </Stack>
    </Box>
  );
}

export function Logo() {
  return (
    <Group gap="xs">
      <img src="/favicon.svg" width="28" height="28" alt="" />
      <Text fw={700} size="lg">
        Postern
      </Text>
    </Group>
  );
}
