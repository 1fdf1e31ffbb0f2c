import { Select } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { teams } from "@/api/queries";

/** Which team's things a list shows. */
export function TeamFilter({
  value,
  onChange,
}: {
  value: string | undefined;
  onChange: (team: string | undefined) => void;
}) {
  const all = useQuery(teams);
  return (
    <Select
      label="Team"
      placeholder="Any"
      clearable
      w={190}
      data={(all.data ?? []).map(({ id, name }) => ({ value: id, label: name }))}
      value={value ?? null}
      onChange={(team) => onChange(team ?? undefined)}
    />
  );
}
