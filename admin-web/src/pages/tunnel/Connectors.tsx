/** The processes that hold the tunnel's secret: replicas of one another. */
import { Button, Card, Group, Select, Stack, Text, Title } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { cutLink, drainLink, forgetConnector, setLogLevel } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { tunnel as tunnelQuery } from "@/api/queries";
import { LinkDots, SLOTS } from "@/parts/LinkDots";
import { LinksTable } from "@/parts/LinksTable";
import { Confirm } from "@/ui/Confirm";
import { GoButton } from "@/ui/Go";
import { notify, notifyProblem } from "@/ui/notify";
import { Empty } from "@/ui/states";
import { When } from "@/ui/When";
import { useTunnel } from "./useTunnel";

type Connector = Schemas["ConnectorBody"];
type Link = Schemas["LinkBody"];

const LEVELS = ["error", "warn", "info", "debug", "trace"] as const satisfies Level[];
type Level = Schemas["LogLevelBody"];

export function Connectors() {
  const { connectors, name } = useTunnel();
  if (connectors.length === 0) {
    return (
      <Empty
        title="No connector"
        action={
          <GoButton to="/admin/tunnel/$name/secrets" params={{ name }}>
            Go to the secrets
          </GoButton>
        }
      >
        A connector is a process in the private network that holds the tunnel's secret. Start one
        with the secret that was shown when the tunnel was made, or make another secret.
      </Empty>
    );
  }
  return (
    <Stack>
      {connectors.map((connector) => (
        <Card
          key={connector.id}
          withBorder
          className="card"
          p="lg"
          component="section"
          aria-label={connector.host}
        >
          <Group justify="space-between" mb="xs">
            <Title order={2}>{connector.host || "Unknown host"}</Title>
            <LinkDots links={connector.links} wanted={SLOTS} />
          </Group>
          <Group gap="lg" mb="sm" align="flex-start">
            <Fact name="Version">{connector.version || "–"}</Fact>
            <Fact name="Platform">{connector.platform || "–"}</Fact>
            <Fact name="Started">
              {connector.started_at ? <When at={connector.started_at} /> : "–"}
            </Fact>
            <Fact name="Policy of its own">
              {connector.policy ? (
                <code title={connector.policy}>{connector.policy.slice(0, 12)}</code>
              ) : (
                "none"
              )}
            </Fact>
            <Fact name="Id">
              <code>{connector.id}</code>
            </Fact>
          </Group>
          {connector.vanished_at ? (
            <Vanished tunnel={name} connector={connector} at={connector.vanished_at} />
          ) : (
            <>
              <Links tunnel={name} connector={connector} />
              <LogLevel tunnel={name} connector={connector} />
            </>
          )}
        </Card>
      ))}
    </Stack>
  );
}

type Of = { tunnel: string; connector: Connector };

function Vanished({ tunnel, connector, at }: Of & { at: string }) {
  const queries = useQueryClient();
  const forget = useMutation({
    mutationFn: () => forgetConnector({ tunnel, connector: connector.id }),
    onSuccess: async () => {
      await queries.invalidateQueries(tunnelQuery(tunnel));
      notify(`${connector.host} is forgotten.`);
    },
    onError: (error) => notifyProblem("The connector was not forgotten", error),
  });
  return (
    <Group justify="space-between">
      <Text size="sm">
        Vanished <When at={at} /> without a goodbye. It counts as missing for an hour, or until it
        is forgotten.
      </Text>
      <Button
        size="xs"
        variant="default"
        loading={forget.isPending}
        onClick={() => forget.mutate()}
        aria-label={`Forget ${connector.host}`}
      >
        Forget
      </Button>
    </Group>
  );
}

function Links({ tunnel, connector }: Of) {
  const [doomed, setDoomed] = useState<Link>();
  const of = ({ slot, edge }: Link) => ({ tunnel, connector: connector.id, slot, edge });
  const drain = useMutation({
    mutationFn: (link: Link) => drainLink(of(link)),
    onSuccess: ({ rollout }, link) =>
      notify(`Link ${link.slot} ${at(link)} is asked to move.${unheard(rollout, [link])}`),
    onError: (error) => notifyProblem("The link was not drained", error),
  });
  const cut = useMutation({
    mutationFn: (link: Link) => cutLink(of(link)),
    onSuccess: ({ rollout }, link) => {
      setDoomed(undefined);
      notify(`Link ${link.slot} ${at(link)} is being cut.${unheard(rollout, [link])}`);
    },
  });
  /** While a link moves, its slot has two. */
  const named = (link: Link) => {
    const isMoving = connector.links.some(
      ({ slot, edge }) => slot === link.slot && edge !== link.edge,
    );
    return isMoving ? `slot ${link.slot} ${at(link)}` : `slot ${link.slot}`;
  };
  return (
    <>
      <LinksTable
        connectors={[connector]}
        actions={(link) => (
          <Group gap={6} wrap="nowrap">
            <Button
              size="compact-xs"
              variant="default"
              loading={
                drain.isPending &&
                drain.variables.slot === link.slot &&
                drain.variables.edge === link.edge
              }
              onClick={() => drain.mutate(link)}
              aria-label={`Drain ${named(link)}`}
            >
              Drain
            </Button>
            <Button
              size="compact-xs"
              variant="default"
              onClick={() => {
                cut.reset();
                setDoomed(link);
              }}
              aria-label={`Cut ${named(link)}`}
            >
              Cut
            </Button>
          </Group>
        )}
      />
      <Confirm
        opened={doomed !== undefined}
        onClose={() => setDoomed(undefined)}
        title={`Cut the link in slot ${doomed?.slot ?? ""}`}
        word={connector.host}
        action="Cut the link"
        isPending={cut.isPending}
        error={cut.error}
        onConfirm={() => doomed !== undefined && cut.mutate(doomed)}
      >
        {doomed && `It is the link ${at(doomed)}. `}Requests that are under way on it break off. The
        connector dials anew at once. To let them finish, drain the link.
      </Confirm>
    </>
  );
}

/** Where a link ends. */
const at = ({ region, edge }: Link) =>
  `at edge ${edge.slice(-6)}${region == null ? "" : ` in ${region}`}`;

/** The links' edges carry it out; what is to be said while one of them has not heard of it. */
function unheard({ applied }: Schemas["Rollout"], links: readonly Link[]): string {
  const hasHeard = (link: Link) => applied.some(({ edge }) => edge === link.edge);
  return links.every(hasHeard)
    ? ""
    : " An edge has not heard of it yet; it obeys as soon as it does.";
}

function LogLevel({ tunnel, connector }: Of) {
  const set = useMutation({
    mutationFn: (level: Level) => setLogLevel({ tunnel, connector: connector.id, level }),
    onSuccess: ({ rollout }, level) =>
      notify(`${connector.host} is asked to log at ${level}.${unheard(rollout, connector.links)}`),
    onError: (error) => notifyProblem("The log level was not changed", error),
  });
  if (!connector.log_level) return null;
  return (
    <Select
      label="Log level"
      mt="md"
      w={{ base: "100%", xs: 360 }}
      allowDeselect={false}
      disabled={!connector.log_level_from_cloud || set.isPending}
      description={
        connector.log_level_from_cloud
          ? "Until the connector ends."
          : "Its own setting does not let the cloud change it: TUNNEL_LOGLEVEL_FROM_CLOUD=true does."
      }
      data={LEVELS}
      value={connector.log_level}
      onChange={(value) => {
        const level = LEVELS.find((each) => each === value);
        if (level && level !== connector.log_level) set.mutate(level);
      }}
    />
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <Text size="xs" c="dimmed">
        {name}
      </Text>
      <Text size="sm" component="div" className="wrap-anywhere">
        {children}
      </Text>
    </div>
  );
}
