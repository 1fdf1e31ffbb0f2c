import { Code, Text } from "@mantine/core";
import type { Run } from "@/api/queries";
import { Copy } from "@/ui/Copy";
import { hex, pretty } from "./show";

/** A response's body: indented for JSON, hexadecimal for bytes, marked where it was cut. */
export function Body({ response }: { response: NonNullable<Run["actions"][number]["response"]> }) {
  const text =
    response.text != null
      ? pretty(response.text)
      : response.base64 != null
        ? hex(response.base64)
        : "";
  if (!text) {
    return (
      <Text size="sm" c="dimmed">
        The response has no body.
      </Text>
    );
  }
  return (
    <section aria-label="Body of the response">
      <Code block tabIndex={0} mah={480}>
        {text}
      </Code>
      {response.truncated && (
        <Text size="sm" mt={4}>
          The body was longer than what the action keeps; the rest was cut.
        </Text>
      )}
      <Copy text={response.text ?? response.base64 ?? ""} label="Copy the body" mt="xs" />
    </section>
  );
}
