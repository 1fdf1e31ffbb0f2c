/** A list that is looked up as a whole: what is shown of it, and what stands in its place. */
import { Group } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { count } from "@/lib/text";
import { type Column, Rows } from "./Rows";
import { Empty, Loading, ProblemAlert } from "./states";

type Item = { readonly id: string };

export function Listing<T extends Item>({
  label,
  noun,
  kind,
  list,
  shown,
  filters,
  empty,
  columns,
}: {
  /** What the list is called, such as `Teams`. */
  label: string;
  /** What one of them is called, such as `team`. */
  noun: string;
  /** See `Rows`. */
  kind: string;
  list: UseQueryResult<T[]>;
  /** Those that fit the search and the filters. */
  shown: readonly T[];
  /** The search and the filters. */
  filters?: ReactNode;
  /** What stands there if there are none at all. */
  empty: ReactNode;
  columns: readonly Column<T>[];
}) {
  const all = list.data ?? [];
  return (
    <>
      {list.isPending && <Loading label={`Loading: ${label}`} />}
      {list.isError && <ProblemAlert error={list.error} onRetry={() => void list.refetch()} />}
      {list.isSuccess && all.length === 0 && empty}
      {all.length > 0 && filters && (
        <Group component="search" gap="sm" align="flex-end" aria-label={label}>
          {filters}
        </Group>
      )}
      {all.length > 0 && shown.length === 0 && (
        <Empty title={`No ${noun} fits`}>
          {count(all.length, noun)} hidden by the search and the filters.
        </Empty>
      )}
      {shown.length > 0 && (
        <Rows label={label} kind={kind} items={shown} itemKey={({ id }) => id} columns={columns} />
      )}
    </>
  );
}
