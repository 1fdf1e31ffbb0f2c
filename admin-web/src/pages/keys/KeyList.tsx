/** One's own API keys: each acts as the user who made it. */
import { Badge, Button, Checkbox, Group, Text, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { createApiKey, revokeApiKey } from "@/api/changes";
import type { Schemas } from "@/api/client";
import { apiKeys } from "@/api/queries";
import { quoted } from "@/lib/curl";
import { ApiCall } from "@/parts/ApiCall";
import { Revoke } from "@/parts/Revoke";
import { MASK, ShownOnce, useSecretGuard } from "@/parts/ShownOnce";
import { isLive } from "@/parts/tokens";
import { Code } from "@/ui/Code";
import { FormDialog } from "@/ui/FormDialog";
import { Listing } from "@/ui/Listing";
import { notify } from "@/ui/notify";
import { Page } from "@/ui/Page";
import { Moment } from "@/ui/Rows";
import { type Faults, fieldAtFault, names, refusals } from "@/ui/refusal";
import { Section } from "@/ui/Section";
import { Empty } from "@/ui/states";

type Created = Schemas["CreatedApiKey"];

export function KeyList() {
  const { state } = useSearch({ from: "/framed/keys" });
  const navigate = useNavigate();
  const queries = useQueryClient();
  const list = useQuery(apiKeys);
  const [isAsked, setAsked] = useState(false);
  const [created, setCreated] = useState<Created>();
  useSecretGuard(created !== undefined, "key");
  const all = list.data ?? [];
  const shown = all.filter((key) => state === "all" || isLive(key));
  const isEmpty = list.isSuccess && all.length === 0;
  return (
    <Page
      title="API keys"
      about="For programs that call the API. A key acts as you: whoever has it may do what you may."
      actions={!isEmpty && <Button onClick={() => setAsked(true)}>Create a key</Button>}
    >
      {created && <NewKey created={created} onKept={() => setCreated(undefined)} />}
      <Listing
        label="API keys"
        noun="key"
        kind="key"
        list={list}
        shown={shown}
        filters={
          <Checkbox
            label="Also revoked ones"
            checked={state === "all"}
            onChange={(event) =>
              void navigate({
                to: "/keys",
                search: event.currentTarget.checked ? { state: "all" } : {},
                replace: true,
              })
            }
          />
        }
        empty={
          <Empty
            title="No API keys"
            action={<Button onClick={() => setAsked(true)}>Create a key</Button>}
          >
            Everything in this console can be done by the API, too. Forms show their call as a curl
            command.
          </Empty>
        }
        columns={[
          { label: "Key", cell: ({ name }) => <Text fw={600}>{name}</Text> },
          { label: "Made", cell: ({ created_at }) => <Moment at={created_at} /> },
          { label: "Last used", cell: ({ last_used_at }) => <Moment at={last_used_at} /> },
          {
            label: "State",
            cell: (key) => <Badge variant="default">{isLive(key) ? "live" : "revoked"}</Badge>,
          },
          {
            label: "Action",
            cell: (key) =>
              isLive(key) && (
                <Revoke
                  what="key"
                  name={key.name}
                  revoke={() => revokeApiKey(key.id)}
                  onRevoked={async () => {
                    await queries.invalidateQueries(apiKeys);
                    notify(`Key ${key.name} is revoked.`);
                  }}
                >
                  Programs that use it are refused from then on. A revoked key never works again.
                </Revoke>
              ),
          },
        ]}
      />
      {isAsked && (
        <CreateKey
          onClose={() => setAsked(false)}
          onCreated={(key) => {
            setAsked(false);
            setCreated(key);
          }}
        />
      )}
    </Page>
  );
}

const FAULTS: Faults<"name"> = { name: names(/the name/) };

function CreateKey({
  onClose,
  onCreated,
}: {
  onClose: () => void;
  onCreated: (created: Created) => void;
}) {
  const queries = useQueryClient();
  const form = useForm({
    initialValues: { name: "" },
    validate: { name: (name) => (name.trim() ? null : "Say what the key is for") },
  });
  const create = useMutation({
    mutationFn: createApiKey,
    onSuccess: async (created) => {
      await queries.invalidateQueries(apiKeys);
      onCreated(created);
    },
    onError: (error) => form.setErrors(refusals(error, FAULTS)),
  });
  const body = { name: form.values.name.trim() };
  return (
    <FormDialog
      opened
      onClose={onClose}
      title="Create an API key"
      action="Create the key"
      isPending={create.isPending}
      error={fieldAtFault(create.error, FAULTS) ? undefined : create.error}
      onSubmit={form.onSubmit(() => create.mutate(body))}
    >
      <TextInput
        label="Name"
        description="What it is for: you revoke keys by it."
        placeholder="Deployment script"
        maxLength={128}
        data-autofocus
        {...form.getInputProps("name")}
      />
      <ApiCall method="POST" path="/api/v1/api-keys" body={body} />
    </FormDialog>
  );
}

function NewKey({ created, onKept }: { created: Created; onKept: () => void }) {
  const [isShown, setShown] = useState(false);
  const text = (key: string) =>
    `export POSTERN_KEY=${quoted(key)}\ncurl -sS -H "Authorization: Bearer $POSTERN_KEY" ${location.origin}/api/v1/me`;
  return (
    <Section title={`Key ${created.name}`}>
      <ShownOnce
        secret={created.key}
        what="key"
        file={`${created.name}-key.txt`}
        isShown={isShown}
        onShown={setShown}
      >
        If it gets lost, revoke it and make another one.
      </ShownOnce>
      <Text size="sm" c="dimmed" my="sm">
        Commands that forms show as API calls read it from POSTERN_KEY.
      </Text>
      <Code label="Command" text={text(created.key)} shown={text(isShown ? created.key : MASK)} />
      <Group>
        <Button onClick={onKept}>I have kept the key</Button>
      </Group>
    </Section>
  );
}
