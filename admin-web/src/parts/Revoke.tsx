/** Revokes a thing that programs use, after its name was typed. */
import { Button } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { Confirm } from "@/ui/Confirm";

export function Revoke<Answer>({
  what,
  name,
  revoke,
  onRevoked,
  children,
}: {
  /** `key`, `token`. */
  what: string;
  name: string;
  revoke: () => Promise<Answer>;
  onRevoked: (answer: Answer) => Promise<unknown>;
  /** What becomes of the programs. */
  children: ReactNode;
}) {
  const [isAsked, setAsked] = useState(false);
  const revocation = useMutation({
    mutationFn: revoke,
    onSuccess: async (answer) => {
      setAsked(false);
      await onRevoked(answer);
    },
  });
  return (
    <>
      <Button
        size="xs"
        variant="default"
        onClick={() => {
          revocation.reset();
          setAsked(true);
        }}
        aria-label={`Revoke ${name}`}
      >
        Revoke
      </Button>
      <Confirm
        opened={isAsked}
        onClose={() => setAsked(false)}
        title={`Revoke ${what} ${name}`}
        word={name}
        action={`Revoke the ${what}`}
        isPending={revocation.isPending}
        error={revocation.error}
        onConfirm={() => revocation.mutate()}
      >
        {children}
      </Confirm>
    </>
  );
}
