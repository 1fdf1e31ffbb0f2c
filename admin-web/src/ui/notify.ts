import { notifications } from "@mantine/notifications";

/** Says in a corner, for a moment, what has happened. */
export function notify(message: string) {
  notifications.show({ message, closeButtonProps: { "aria-label": "Close" } });
}

/** The same for what did not happen. */
export function notifyProblem(title: string, error: Error) {
  notifications.show({
    color: "red",
    title,
    message: error.message,
    closeButtonProps: { "aria-label": "Close" },
  });
}
