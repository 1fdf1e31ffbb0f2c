/** A new token, inside what is to be pasted: for a tunnel, an edge and a URL of the reader's choice. */
import { Button, Checkbox, Group, Select, Stack, Tabs, Text, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "@/api/client";
import { about, edges, usableTunnels } from "@/api/queries";
import { download } from "@/lib/download";
import { MASK, ShownOnce } from "@/parts/ShownOnce";
import { Code } from "@/ui/Code";
import { Section } from "@/ui/Section";
import { Loading, ProblemAlert } from "@/ui/states";
import { TOKEN_RECIPES } from "./recipes";

const CA_FILE = "ca.crt";

export function UseToken({ token }: { token: Schemas["CreatedProxyToken"] }) {
  const [isShown, setShown] = useState(false);
  const usable = useQuery(usableTunnels(token.team));
  const allEdges = useQuery(edges);
  const info = useQuery(about);
  const [isOwn, setOwn] = useState(true);
  const [chosenTunnel, setTunnel] = useState<string | null>(null);
  const [chosenGateway, setGateway] = useState<string | null>(null);
  const [url, setUrl] = useState("http://wiki.corp/");
  const [recipe, setRecipe] = useState<string>(TOKEN_RECIPES[0]?.id ?? "");
  const live = (allEdges.data?.items ?? []).filter((edge) => edge.is_live);
  const tunnel = chosenTunnel ?? usable.data?.[0]?.name ?? "TUNNEL";
  const gateway = chosenGateway ?? live[0]?.gateway ?? "EDGE:3128";
  const isTls = live.find((edge) => edge.gateway === gateway)?.gateway_tls ?? false;
  const error = usable.error ?? allEdges.error ?? info.error;
  const way = { tunnel, gateway, url, isTls, ca: isTls && isOwn ? CA_FILE : undefined };
  return (
    <Stack gap="lg">
      <ShownOnce
        secret={token.token}
        what="token"
        file={`${token.name}-token.txt`}
        isShown={isShown}
        onShown={setShown}
      >
        If it gets lost, revoke it and make another one.
      </ShownOnce>
      <Section
        title="Use it"
        about="An edge is the proxy, the tunnel's name its user, the token its password."
      >
        {(usable.isPending || allEdges.isPending) && <Loading rows={1} />}
        {error && <ProblemAlert error={error} />}
        <Group align="flex-start" gap="sm" mb="md">
          <Select
            label="Tunnel"
            w={{ base: "100%", xs: 200 }}
            allowDeselect={false}
            placeholder="The team may use none yet"
            data={(usable.data ?? []).map(({ name }) => name)}
            value={usable.data?.length ? tunnel : null}
            onChange={setTunnel}
          />
          <Select
            label="Edge"
            w={{ base: "100%", xs: 300 }}
            allowDeselect={false}
            placeholder="No edge is live"
            data={live.map((edge) => ({
              value: edge.gateway,
              label: `${edge.region} · ${edge.gateway}`,
            }))}
            value={live.length > 0 ? gateway : null}
            onChange={setGateway}
          />
          <TextInput
            label="URL in the private network"
            w={{ base: "100%", xs: 300 }}
            spellCheck={false}
            value={url}
            onChange={(event) => setUrl(event.currentTarget.value)}
          />
        </Group>
        {isTls && (
          <Group align="flex-end" mb="md">
            <Checkbox
              label="Trust the deployment's own authority"
              description="Uncheck it where a public authority has signed the edge's certificate."
              checked={isOwn}
              onChange={(event) => setOwn(event.currentTarget.checked)}
            />
            {isOwn && info.data && (
              <Button
                size="xs"
                variant="default"
                onClick={() => download(CA_FILE, info.data.authority)}
              >
                Download {CA_FILE}
              </Button>
            )}
          </Group>
        )}
        <Tabs value={recipe} onChange={(id) => id && setRecipe(id)} keepMounted={false}>
          <Tabs.List>
            {TOKEN_RECIPES.map(({ id, label }) => (
              <Tabs.Tab key={id} value={id}>
                {label}
              </Tabs.Tab>
            ))}
          </Tabs.List>
          {TOKEN_RECIPES.map(({ id, label, about, text }) => (
            <Tabs.Panel key={id} value={id} pt="md">
              <Text size="sm" c="dimmed" mb="sm">
                {about}
              </Text>
              <Code
                label={`Recipe for ${label}`}
                text={text({ ...way, token: token.token })}
                shown={text({ ...way, token: isShown ? token.token : MASK })}
              />
            </Tabs.Panel>
          ))}
        </Tabs>
      </Section>
    </Stack>
  );
}
