/** One tunnel: its head, and a tab for each part. */
import { Group, Tabs, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Outlet, useLocation, useNavigate, useParams } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { Problem } from "@/api/problem";
import { tunnel } from "@/api/queries";
import { HealthMark } from "@/parts/Health";
import { Page } from "@/ui/Page";
import { Loading, ProblemAlert } from "@/ui/states";
import { When } from "@/ui/When";
import { NotFound } from "../frame/NotFound";

const TABS = [
  ["/admin/tunnel/$name", "Overview"],
  ["/admin/tunnel/$name/connectors", "Connectors"],
  ["/admin/tunnel/$name/access", "Access"],
  ["/admin/tunnel/$name/secrets", "Secrets"],
  ["/admin/tunnel/$name/audit", "Audit"],
  ["/admin/tunnel/$name/settings", "Settings"],
] as const;

export function TunnelPage() {
  const { name } = useParams({ from: "/framed/tunnels/admin/tunnel/$name" });
  const { data, error, isPending, refetch } = useQuery(tunnel(name));
  const navigate = useNavigate();
  const { pathname } = useLocation();
  const path = (route: string) => route.replace("$name", name);
  const current = TABS.findLast(([route]) => pathname.startsWith(path(route)));
  // On a phone the row of tabs scrolls.
  const tabs = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!current) return;
    const tab = tabs.current?.querySelector("[data-active]");
    tab?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [current]);
  if (error instanceof Problem && error.status === 404) return <NotFound />;
  return (
    <Page
      title={data?.display_name ?? name}
      about={
        data && (
          <Group gap="sm" component="span" display="inline-flex">
            <HealthMark health={data.health.health} />
            <span>
              changed <When at={data.health.since} />
            </span>
            {data.display_name !== data.name && <Text span>Name: {data.name}</Text>}
          </Group>
        )
      }
    >
      <Tabs
        value={current?.[0] ?? null}
        keepMounted={false}
        onChange={(to) => {
          const tab = TABS.find(([route]) => route === to);
          if (tab) void navigate({ to: tab[0], params: { name } });
        }}
      >
        <Tabs.List mb="lg" ref={tabs}>
          {TABS.map(([route, label]) => (
            <Tabs.Tab key={route} value={route}>
              {label}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {current && (
          <Tabs.Panel value={current[0]}>
            {isPending && <Loading label="Loading the tunnel" />}
            {error && <ProblemAlert error={error} onRetry={() => void refetch()} />}
            {data && <Outlet />}
          </Tabs.Panel>
        )}
      </Tabs>
    </Page>
  );
}
