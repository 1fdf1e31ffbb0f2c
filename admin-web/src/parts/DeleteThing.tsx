/** The end of a thing: asks for its name, and says first who uses it. */
import { Button, List, Text } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type ReactNode, useId, useState } from "react";
import { Problem } from "@/api/problem";
import { Confirm } from "@/ui/Confirm";
import { notify } from "@/ui/notify";
import { Section } from "@/ui/Section";

const KINDS: Readonly<Record<string, string>> = {
  workflow: "workflow",
  proxy_token: "proxy token",
  tunnel: "the access list of tunnel",
};

export function DeleteThing({
  what,
  name,
  about,
  hindrance,
  remove,
  onDeleted,
  children,
}: {
  /** `tunnel`, `team`, `user`. */
  what: string;
  name: string;
  /** What becomes of what belongs to it. */
  about: string;
  /** Why it cannot be deleted now. */
  hindrance?: string;
  /** With `force` although something uses it. */
  remove: (force: boolean) => Promise<unknown>;
  onDeleted: () => Promise<unknown>;
  /** What is to be known before. */
  children?: ReactNode;
}) {
  const why = useId();
  const [isAsked, setAsked] = useState(false);
  const deletion = useMutation({
    mutationFn: remove,
    onSuccess: async () => {
      notify(`The ${what} ${name} is deleted.`);
      await onDeleted();
    },
  });
  const users = deletion.error instanceof Problem ? deletion.error.usedBy : [];
  return (
    <Section title="Delete">
      <Text size="sm" mb="md" id={why}>
        {hindrance ?? about}
      </Text>
      <Button
        variant="default"
        c={hindrance ? undefined : "var(--mantine-color-error)"}
        w="fit-content"
        disabled={hindrance !== undefined}
        aria-describedby={why}
        onClick={() => setAsked(true)}
      >
        Delete the {what}
      </Button>
      <Confirm
        opened={isAsked}
        onClose={() => {
          setAsked(false);
          deletion.reset();
        }}
        title={`Delete ${what} ${name}`}
        word={name}
        action={users.length > 0 ? "Delete it all the same" : `Delete the ${what}`}
        isPending={deletion.isPending}
        error={users.length > 0 ? undefined : deletion.error}
        onConfirm={() => deletion.mutate(users.length > 0)}
      >
        {children} This cannot be undone.
        {users.length > 0 && (
          <div role="alert">
            <Text size="sm" fw={600} mt="sm">
              It is in use by:
            </Text>
            <List size="sm">
              {users.map((user) => (
                <List.Item key={`${user.kind} ${user.id}`} className="wrap-anywhere">
                  {KINDS[user.kind] ?? user.kind} <b>{user.name}</b>
                </List.Item>
              ))}
            </List>
          </div>
        )}
      </Confirm>
    </Section>
  );
}
