import { Card, Text, Title } from "@mantine/core";
import { type ReactNode, useId } from "react";

/** A part of a page, with its heading and what it is about. */
export function Section({
  title,
  about,
  children,
}: {
  title: string;
  about?: ReactNode;
  children: ReactNode;
}) {
  const id = useId();
  return (
    <Card withBorder className="card" p="lg" component="section" aria-labelledby={id}>
      <Title order={2} id={id} mb={about ? 4 : "sm"}>
        {title}
      </Title>
      {about && (
        <Text size="sm" c="dimmed" mb="sm">
          {about}
        </Text>
      )}
      {children}
    </Card>
  );
}
