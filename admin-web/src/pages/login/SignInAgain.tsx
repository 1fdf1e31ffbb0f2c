/**
 * The dialog that asks to sign in again when the session has ended. The page behind it keeps all that
 * was typed, and the call that found out goes on by itself.
 */
import { Modal, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { me } from "@/api/queries";
import { session } from "@/api/session";
import { SignInForm } from "./SignInForm";

export function SignInAgain() {
  const state = useSyncExternalStore(session.subscribe, session.state);
  const user = useQueryClient().getQueryData(me.queryKey);
  return (
    <Modal
      opened={state.kind === "ended"}
      onClose={() => undefined}
      withCloseButton={false}
      closeOnClickOutside={false}
      closeOnEscape={false}
      title="Your session has ended"
      zIndex={400}
    >
      <Text size="sm" mb="md">
        Sign in again to go on. Nothing that you typed is lost.
      </Text>
      <SignInForm email={user?.email} onDone={() => undefined} />
    </Modal>
  );
}
