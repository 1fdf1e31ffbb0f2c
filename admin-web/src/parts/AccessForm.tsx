/** Who may use a tunnel: any team, or chosen ones. */
import { MultiSelect, Radio, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import type { Schemas } from "@/api/client";
import { teams } from "@/api/queries";
import { ProblemAlert } from "@/ui/states";

export type Access = Schemas["AccessBody"];

export function AccessForm({
  value,
  error,
  onChange,
}: {
  value: Access;
  /** What is wrong with the teams. */
  error?: ReactNode;
  onChange: (access: Access) => void;
}) {
  const all = useQuery(teams);
  return (
    <Stack>
      <Radio.Group
        label="Who may use this tunnel"
        value={value.mode}
        onChange={(mode) =>
          onChange(mode === "teams" ? { mode: "teams", teams: [] } : { mode: "any_team" })
        }
      >
        <Stack gap="sm" mt="sm">
          <Radio value="any_team" label="Any team" description="Also teams that are made later." />
          <Radio
            value="teams"
            label="Chosen teams"
            description="Their workflows and their proxy tokens. Nobody else."
          />
        </Stack>
      </Radio.Group>
      {all.isError && <ProblemAlert error={all.error} onRetry={() => void all.refetch()} />}
      {value.mode === "teams" && (
        <>
          <MultiSelect
            label="Teams"
            placeholder={value.teams.length === 0 ? "Choose teams" : undefined}
            searchable
            data={(all.data ?? []).map((team) => ({ value: team.id, label: team.name }))}
            value={value.teams}
            error={error}
            onChange={(chosen) => onChange({ mode: "teams", teams: chosen })}
            nothingFoundMessage="There is no such team"
          />
          {value.teams.length === 0 && (
            <Text size="sm" c="dimmed">
              Without a team nobody can use the tunnel.
            </Text>
          )}
        </>
      )}
    </Stack>
  );
}
