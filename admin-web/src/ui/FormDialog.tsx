/** A dialog around a small form. */
import { Button, Group, Modal, Stack } from "@mantine/core";
import type { FormEvent, ReactNode } from "react";
import { ProblemAlert } from "./states";

export function FormDialog({
  opened,
  onClose,
  title,
  action,
  isPending,
  error,
  onSubmit,
  children,
}: {
  opened: boolean;
  onClose: () => void;
  title: string;
  /** What stands on the button. */
  action: string;
  isPending: boolean;
  /** What no field is at fault for. */
  error?: unknown;
  onSubmit: (event: FormEvent<HTMLFormElement>) => void;
  children: ReactNode;
}) {
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title={title}
      // A click beside it must not throw away what was typed.
      closeOnClickOutside={false}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <form onSubmit={onSubmit} noValidate aria-label={title}>
        <Stack>
          {children}
          {error != null && <ProblemAlert error={error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose} disabled={isPending}>
              Cancel
            </Button>
            <Button type="submit" loading={isPending}>
              {action}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
