/** Edges: where connectors dial and programs enter, and what firewalls must let out for that. */
import { Badge, Button, Group, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useRouteContext } from "@tanstack/react-router";
import { useState } from "react";
import { removeEdge } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { edges } from "@/api/queries";
import { count } from "@/lib/text";
import { Confirm } from "@/ui/Confirm";
import { Copy } from "@/ui/Copy";
import { notify } from "@/ui/notify";
import { Page } from "@/ui/Page";
import { type Column, Dim, Moment, Rows } from "@/ui/Rows";
import { Section } from "@/ui/Section";
import { Empty, Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";
import { seesEdges } from "../frame/areas";
import { asText, endpoints } from "./endpoints";
import { JoinTokens } from "./JoinTokens";

type Edge = Schemas["Edges"]["items"][number];

export function Edges() {
  const { user } = useRouteContext({ from: "/framed" });
  return (
    <Page
      title="Edges"
      about="Connectors dial them, and programs use them as their proxy. None of them dials you."
    >
      {seesEdges(user) ? (
        <>
          <List />
          {user.is_operator && <JoinTokens />}
        </>
      ) : (
        <Empty title="You may not see edges">
          This needs the permission TUNNEL_MANAGE. Ask an owner of your tenant for it.
        </Empty>
      )}
    </Page>
  );
}

function List() {
  const { user } = useRouteContext({ from: "/framed" });
  const queries = useQueryClient();
  const list = useQuery(edges);
  const [asked, setAsked] = useState<Edge>();
  const remove = useMutation({
    mutationFn: removeEdge,
    onSuccess: async () => {
      await queries.invalidateQueries(edges);
      notify("The edge is removed.");
      setAsked(undefined);
    },
  });
  if (list.isPending) return <Loading label="Loading the edges" />;
  if (list.isError) return <ProblemAlert error={list.error} onRetry={() => void list.refetch()} />;
  const { items, generation } = list.data;
  const sorted = [...items].sort(
    (a, b) => a.region.localeCompare(b.region) || a.id.localeCompare(b.id),
  );
  if (sorted.length === 0) {
    return (
      <Empty title="No edge has joined yet">
        Tunnels need one. An operator makes a join token, and starts an edge with it.
      </Empty>
    );
  }
  const columns: readonly Column<Edge>[] = [
    {
      label: "Edge",
      cell: ({ id, region }) => (
        <>
          <Text fw={600}>{region}</Text>
          <Text size="xs" c="dimmed" title={id}>
            {short(id)}
          </Text>
        </>
      ),
    },
    { label: "State", cell: (edge) => <State edge={edge} /> },
    { label: "Links", cell: ({ links }) => <Dim>{links.toLocaleString("en")}</Dim> },
    { label: "Gateway", cell: ({ gateway }) => <code>{gateway}</code> },
    {
      label: "Obeys",
      cell: (edge) => <Dim>{obeys(edge.applied_generation, generation)}</Dim>,
    },
    { label: "Joined", cell: ({ joined_at }) => <Moment at={joined_at} /> },
  ];
  const action: Column<Edge> = {
    label: "Action",
    cell: (edge) => (
      <Button
        size="xs"
        variant="default"
        onClick={() => {
          remove.reset();
          setAsked(edge);
        }}
        aria-label={`Remove edge ${short(edge.id)}`}
      >
        Remove
      </Button>
    ),
  };
  return (
    <>
      <Rows
        label="Edges"
        kind="edge"
        items={sorted}
        itemKey={({ id }) => id}
        columns={user.is_operator ? [...columns, action] : columns}
      />
      <Firewall edges={sorted} />
      <Confirm
        opened={asked !== undefined}
        onClose={() => setAsked(undefined)}
        title={`Remove edge ${asked ? short(asked.id) : ""}`}
        word={asked?.region ?? ""}
        action="Remove the edge"
        isPending={remove.isPending}
        error={remove.error}
        onConfirm={() => asked && remove.mutate(asked.id)}
      >
        {asked && asked.links > 0
          ? `${count(asked.links, "link")} that it holds ${asked.links === 1 ? "ends" : "end"}. `
          : "It holds no link. "}
        Its certificate counts no more. To return, an edge joins anew, with a join token.
      </Confirm>
    </>
  );
}

const short = (id: string) => id.slice(-6);

function State({ edge }: { edge: Edge }) {
  if (edge.is_live) return <Badge variant="default">Live</Badge>;
  return (
    <>
      <Badge color="red" variant="outline" c="var(--mantine-color-text)">
        Silent
      </Badge>
      {edge.lease_until && (
        <Text size="xs" c="dimmed">
          since <When at={edge.lease_until} />
        </Text>
      )}
    </>
  );
}

/** Whether an edge obeys the newest change. */
function obeys(applied: number, newest: number): string {
  const behind = newest - applied;
  return behind <= 0 ? "the newest change" : `all but ${count(behind, "change")}`;
}

function Firewall({ edges }: { edges: readonly Edge[] }) {
  const rows = endpoints(edges);
  return (
    <Section
      title="What firewalls must let out"
      about="From each host that runs a connector, to these addresses. Nothing must be let in. One of the protocols is enough; with all of them a connector chooses the best."
    >
      <Rows
        label="Firewall table"
        kind="endpoint"
        items={rows}
        itemKey={({ host, port, protocol }) => `${host} ${port} ${protocol}`}
        columns={[
          { label: "Address", cell: ({ host }) => <code>{host}</code> },
          { label: "Port", cell: ({ port }) => <code>{port}</code> },
          { label: "Protocol", cell: ({ protocol }) => protocol.toUpperCase() },
          { label: "Region", cell: ({ region }) => <Dim>{region}</Dim> },
          { label: "For", cell: ({ purpose }) => <Dim>{purpose}</Dim> },
        ]}
      />
      <Group mt="sm">
        <Copy text={asText(rows)} label="Copy the table" />
      </Group>
    </Section>
  );
}
