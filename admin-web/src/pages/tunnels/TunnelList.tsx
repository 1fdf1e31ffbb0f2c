/** All tunnels: which work, which do not and why. */
import { Button, Card, Group, Select, Text, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { memo, useLayoutEffect, useMemo, useRef, useState } from "react";
import type { Schemas } from "@/api/client";
import { teams, tunnels } from "@/api/queries";
import { count } from "@/lib/text";
import { HEALTH_WORDS, HealthMark } from "@/parts/Health";
import { LinkDots, SLOTS } from "@/parts/LinkDots";
import { Go, GoButton } from "@/ui/Go";
import { Page } from "@/ui/Page";
import { Cells, type Column, RowHead } from "@/ui/Rows";
import { Empty, Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";
import { fitting, type ListSearch, regions } from "./search";

type Tunnel = Schemas["TunnelSummary"];

const NO_TUNNELS: Tunnel[] = [];

export function TunnelList() {
  const list = useQuery(tunnels);
  const search = useSearch({ from: "/framed/tunnels/admin/tunnel" });
  const all = list.data ?? NO_TUNNELS;
  const shown = useMemo(() => fitting(all, search), [all, search]);
  const isEmpty = list.isSuccess && all.length === 0;
  return (
    <Page
      title="Tunnels"
      about={list.isSuccess && !isEmpty ? summary(all) : undefined}
      actions={!isEmpty && <GoButton to="/admin/tunnel/new">Create a tunnel</GoButton>}
    >
      {list.isPending && <Loading label="Loading the tunnels" />}
      {list.isError && <ProblemAlert error={list.error} onRetry={() => void list.refetch()} />}
      {isEmpty && (
        <Empty
          title="No tunnels yet"
          action={<GoButton to="/admin/tunnel/new">Create the first tunnel</GoButton>}
        >
          A tunnel is a named path into one private network. A connector inside that network dials
          out; workflows and proxy clients then reach its servers through the tunnel.
        </Empty>
      )}
      {all.length > 0 && <Filters search={search} regions={regions(all)} />}
      {all.length > 0 && shown.length === 0 && (
        <Empty title="No tunnel fits" action={<ClearFilters />}>
          {count(all.length, "tunnel")} {all.length === 1 ? "is" : "are"} hidden by the search and
          the filters.
        </Empty>
      )}
      {shown.length > 0 && <Rows tunnels={shown} />}
    </Page>
  );
}

function summary(all: readonly Tunnel[]): string {
  const words = HEALTH_WORDS.map((word) => {
    const number = all.filter((tunnel) => tunnel.health.health === word).length;
    return number > 0 ? `${number.toLocaleString("en")} ${word}` : undefined;
  });
  return words.filter(Boolean).join(" · ");
}

function Filters({ search, regions }: { search: ListSearch; regions: string[] }) {
  const navigate = useNavigate();
  const allTeams = useQuery(teams);
  const set = (change: Partial<ListSearch>) =>
    void navigate({
      to: "/admin/tunnel",
      search: (before) => ({ ...before, ...change }),
      replace: true,
    });
  return (
    <Group gap="sm" align="flex-end" role="search" aria-label="Tunnels">
      <TextInput
        label="Search"
        placeholder="Name"
        type="search"
        data-search
        w={{ base: "100%", xs: 220 }}
        value={search.q ?? ""}
        onChange={(event) => set({ q: event.currentTarget.value || undefined })}
      />
      <Select
        label="Health"
        placeholder="Any"
        clearable
        w={150}
        data={[...HEALTH_WORDS]}
        value={search.health ?? null}
        onChange={(value) => set({ health: HEALTH_WORDS.find((word) => word === value) })}
      />
      <Select
        label="Region"
        placeholder="Any"
        clearable
        w={150}
        data={regions}
        value={search.region ?? null}
        onChange={(value) => set({ region: value ?? undefined })}
      />
      <Select
        label="Team that may use it"
        placeholder="Any"
        clearable
        searchable
        w={190}
        data={(allTeams.data ?? []).map((team) => ({ value: team.id, label: team.name }))}
        value={search.team ?? null}
        onChange={(value) => set({ team: value ?? undefined })}
      />
    </Group>
  );
}

function ClearFilters() {
  const navigate = useNavigate();
  return (
    <Button variant="default" onClick={() => void navigate({ to: "/admin/tunnel", search: {} })}>
      Clear search and filters
    </Button>
  );
}

/** Height of a row before it is measured. */
const ROW_PX = 64;

function Rows({ tunnels }: { tunnels: Tunnel[] }) {
  const list = useRef<HTMLUListElement>(null);
  const [top, setTop] = useState(0);
  useLayoutEffect(() => setTop(list.current?.offsetTop ?? 0), []);
  const rows = useWindowVirtualizer({
    count: tunnels.length,
    estimateSize: () => ROW_PX,
    overscan: 10,
    scrollMargin: top,
    getItemKey: (index) => tunnels[index]?.id ?? index,
  });
  return (
    <Card withBorder className="card" p={0}>
      <RowHead kind="tunnel" columns={COLUMNS} />
      <ul
        ref={list}
        className="rows"
        aria-label="Tunnels"
        style={{ height: rows.getTotalSize(), position: "relative" }}
      >
        {rows.getVirtualItems().map((item) => {
          const tunnel = tunnels[item.index];
          if (!tunnel) return null;
          return (
            <li
              key={item.key}
              ref={rows.measureElement}
              data-index={item.index}
              aria-setsize={tunnels.length}
              aria-posinset={item.index + 1}
              style={{
                position: "absolute",
                insetInline: 0,
                transform: `translateY(${item.start - top}px)`,
              }}
            >
              <Row tunnel={tunnel} />
            </li>
          );
        })}
      </ul>
    </Card>
  );
}

const COLUMNS: readonly Column<Tunnel>[] = [
  {
    label: "Tunnel",
    cell: ({ name, display_name }) => (
      <>
        <Go to="/admin/tunnel/$name" params={{ name }} className="row-link" fw={600}>
          {display_name}
        </Go>
        {display_name !== name && (
          <Text size="xs" c="dimmed">
            {name}
          </Text>
        )}
      </>
    ),
  },
  {
    label: "Health",
    cell: ({ health }) => (
      <>
        <HealthMark health={health.health} />
        <Text size="xs" c="dimmed" lineClamp={2}>
          {health.reason}
        </Text>
      </>
    ),
  },
  {
    label: "Links",
    cell: ({ links, connectors, missing_connectors: missing }) => (
      <>
        <LinkDots links={links} wanted={(connectors + missing) * SLOTS} />
        <Text size="xs" c="dimmed">
          {connectors + missing > 0 && count(connectors, "connector")}
        </Text>
      </>
    ),
  },
  {
    label: "Regions",
    cell: ({ links }) => (
      <Text size="sm" c="dimmed">
        {[...new Set(links.map((link) => link.region ?? "unknown"))].sort().join(", ") || "–"}
      </Text>
    ),
  },
  {
    label: "So since",
    cell: ({ health }) => (
      <Text size="sm" c="dimmed">
        <When at={health.since} />
      </Text>
    ),
  },
];

const Row = memo(function Row({ tunnel }: { tunnel: Tunnel }) {
  return (
    <div className="row row-tunnel">
      <Cells columns={COLUMNS} item={tunnel} />
    </div>
  );
});
