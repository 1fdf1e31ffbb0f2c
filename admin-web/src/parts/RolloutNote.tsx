/** Which edges obey a change already. */
import { Alert, Text } from "@mantine/core";
import type { Schemas } from "@/api/client";
import { count } from "@/lib/text";

export function RolloutNote({ rollout, title }: { rollout: Schemas["Rollout"]; title: string }) {
  const { applied, pending } = rollout;
  const names = (edges: typeof applied) =>
    edges.map(({ region, edge }) => `${region} (${edge.slice(-6)})`).join(", ");
  return (
    <Alert
      color={pending.length > 0 ? "yellow" : "green"}
      variant="outline"
      className="card"
      role="status"
      title={title}
    >
      <Text size="sm">
        {count(applied.length, "edge obeys", "edges obey")} it already
        {applied.length > 0 && `: ${names(applied)}`}.
      </Text>
      {pending.length > 0 && (
        <Text size="sm">
          Not yet: {names(pending)}. They obey as soon as they hear of it from the control plane.
        </Text>
      )}
    </Alert>
  );
}
