/** Everything that was done in the tenant, and whether the log is whole. For owners. */
import { Alert, Button, Group, Select, Text, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useNavigate, useRouteContext, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { audit, auditVerdict } from "@/api/queries";
import { count } from "@/lib/text";
import { AuditRows } from "@/parts/AuditRows";
import { Copy } from "@/ui/Copy";
import { Further } from "@/ui/Further";
import { Page } from "@/ui/Page";
import { Empty, Loading, ProblemAlert } from "@/ui/states";
import { AREAS, type AuditSearch, auditFilter } from "./search";

export function Audit() {
  const { user } = useRouteContext({ from: "/framed" });
  return (
    <Page
      title="Audit"
      about="Who did what, newest first. Each entry is chained to the one before."
    >
      {user.is_owner ? (
        <>
          <Verdict />
          <Log />
        </>
      ) : (
        <Empty title="You may not see the audit log">
          Owners of your tenant see it. Whoever manages tunnels sees a tunnel's own on its page.
        </Empty>
      )}
    </Page>
  );
}

function Verdict() {
  const { data, error, isPending, isFetching, refetch } = useQuery(auditVerdict);
  if (isPending) return <Loading rows={1} label="Following the chain" />;
  if (error) return <ProblemAlert error={error} onRetry={() => void refetch()} />;
  return (
    <Alert
      color={data.intact ? "green" : "red"}
      title={data.intact ? "The log is whole" : "The log was tampered with"}
      role="status"
    >
      <Text size="sm" className="wrap-anywhere">
        {data.intact ? (
          <>
            {count(data.entries ?? 0, "entry was", "entries were")} followed from the first one.
            Keep the last hash elsewhere, and a cut end will show: <code>{data.head}</code>
          </>
        ) : (
          `Entry ${data.broken_at} was edited, or the one before it is gone. What stands before it is whole.`
        )}
      </Text>
      <Group mt="sm" gap="xs">
        <Button size="xs" variant="default" loading={isFetching} onClick={() => void refetch()}>
          Check again
        </Button>
        {data.head && <Copy text={data.head} label="Copy the last hash" />}
      </Group>
    </Alert>
  );
}

function Log() {
  const search = useSearch({ from: "/framed/audit" });
  const filter = useMemo(() => auditFilter(search), [search]);
  const log = useInfiniteQuery(audit(filter));
  const entries = (log.data?.pages ?? []).flatMap((page) => page.items);
  const isFiltered = Object.values(search).some((value) => value !== undefined);
  return (
    <>
      <Filters search={search} />
      {log.isPending && <Loading label="Loading the audit log" />}
      {log.isError && <ProblemAlert error={log.error} onRetry={() => void log.refetch()} />}
      {log.isSuccess && entries.length === 0 && (
        <Empty title={isFiltered ? "No entry fits" : "Nothing was done yet"}>
          {log.hasNextPage
            ? "There may be some further back."
            : "The log holds nothing of the kind."}
        </Empty>
      )}
      {entries.length > 0 && <AuditRows entries={entries} />}
      <Further list={log} />
    </>
  );
}

const TYPING_MS = 300;

function Filters({ search }: { search: AuditSearch }) {
  const navigate = useNavigate();
  const set = (change: Partial<AuditSearch>) =>
    void navigate({
      to: "/audit",
      search: (before) => ({ ...before, ...change }),
      replace: true,
    });
  const isAny = Object.values(search).some((value) => value !== undefined);
  return (
    <Group component="search" gap="sm" align="flex-end" aria-label="Audit log">
      <Typed
        label="Who"
        placeholder="Part of an e-mail address"
        isSearch
        value={search.actor}
        onChange={(actor) => set({ actor })}
      />
      <Select
        label="What"
        placeholder="Anything"
        clearable
        w={{ base: "100%", xs: 160 }}
        data={areas(search.action)}
        value={search.action ?? null}
        onChange={(action) => set({ action: action ?? undefined })}
      />
      <Typed
        label="To what"
        placeholder="A whole name or id"
        value={search.subject}
        onChange={(subject) => set({ subject })}
      />
      <TextInput
        label="From"
        type="date"
        w={{ base: "calc(50% - 6px)", xs: 160 }}
        value={search.from ?? ""}
        onChange={(event) => set({ from: event.currentTarget.value || undefined })}
      />
      <TextInput
        label="To"
        type="date"
        w={{ base: "calc(50% - 6px)", xs: 160 }}
        value={search.until ?? ""}
        error={
          search.from && search.until && search.from > search.until
            ? "Before the first day"
            : undefined
        }
        onChange={(event) => set({ until: event.currentTarget.value || undefined })}
      />
      {isAny && (
        <Button variant="default" onClick={() => void navigate({ to: "/audit", search: {} })}>
          Clear
        </Button>
      )}
    </Group>
  );
}

/** Areas, and the single action that a link asked for. */
function areas(action: string | undefined) {
  const isKnown = !action || AREAS.some(({ value }) => value === action);
  return [...AREAS, ...(isKnown ? [] : [{ value: action, label: action }])];
}

/** A text that is asked for once nobody types any more. */
function Typed({
  label,
  placeholder,
  isSearch,
  value,
  onChange,
}: {
  label: string;
  placeholder: string;
  isSearch?: boolean;
  value: string | undefined;
  onChange: (value: string | undefined) => void;
}) {
  const [text, setText] = useState(value ?? "");
  useEffect(() => setText(value ?? ""), [value]);
  const tell = useDebouncedCallback(
    (next: string) => onChange(next.trim() || undefined),
    TYPING_MS,
  );
  return (
    <TextInput
      label={label}
      placeholder={placeholder}
      data-search={isSearch || undefined}
      w={{ base: "100%", xs: 220 }}
      value={text}
      onChange={(event) => {
        setText(event.currentTarget.value);
        tell(event.currentTarget.value);
      }}
    />
  );
}
