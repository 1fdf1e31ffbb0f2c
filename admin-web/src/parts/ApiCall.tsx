/** What a form would send, as a call of the API to paste into a shell. */
import { Box } from "@mantine/core";
import { apiCall } from "@/lib/curl";
import { Code } from "@/ui/Code";

export function ApiCall({
  method,
  path,
  body,
}: {
  method: "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  /** Without what is secret: a placeholder stands for it. */
  body?: unknown;
}) {
  return (
    <details>
      <summary>As API call</summary>
      <Box mt="xs">
        <Code label="API call" text={apiCall(method, `${location.origin}${path}`, body)} />
      </Box>
    </details>
  );
}
