/**
 * The wizard: name → access → how the connector will run → the secret inside a command, and a screen
 * that waits for the links.
 */
import { Button, Card, Group, Radio, Stack, Stepper, Text, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { answer, api, type Schemas } from "@/api/client";
import { tunnels } from "@/api/queries";
import { slug } from "@/lib/text";
import { type Access, AccessForm } from "@/parts/AccessForm";
import { ApiCall } from "@/parts/ApiCall";
import { RECIPES } from "@/parts/recipes";
import { useSecretGuard } from "@/parts/ShownOnce";
import { GoButton } from "@/ui/Go";
import { Page } from "@/ui/Page";
import { type Faults, fieldAtFault, isConflict, names, Refusal } from "@/ui/refusal";
import { ProblemAlert } from "@/ui/states";
import { Waiting } from "./Waiting";

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** What the API may refuse, and where to mend it. */
const FAULTS: Faults<Field> = {
  displayName: names(/display/),
  access: names(/no team/),
  name: (problem) => isConflict(problem) || names(/name/)(problem),
};
type Field = "displayName" | "name" | "access";
const STEP_OF = { displayName: 0, name: 0, access: 1 } as const;

export function NewTunnel() {
  return (
    <Page title="Create a tunnel" about="A named path into one private network.">
      <Wizard />
    </Page>
  );
}

function Wizard() {
  const queries = useQueryClient();
  const [step, setStep] = useState(0);
  const [displayName, setDisplayName] = useState("");
  const [ownName, setOwnName] = useState<string>();
  const [access, setAccess] = useState<Access>({ mode: "any_team" });
  const [recipe, setRecipe] = useState(RECIPES[0]?.id ?? "");
  const [nameError, setNameError] = useState<string>();
  const [isKept, setKept] = useState(false);
  const name = ownName ?? slug(displayName);
  const body = { name, display_name: displayName.trim() || name, access };
  const create = useMutation({
    mutationFn: () => answer(api.POST("/api/v1/admin/tunnel", { body })),
    onSuccess: () => {
      setStep(3);
      void queries.invalidateQueries(tunnels);
    },
    onError: (error) => {
      const field = fieldAtFault(error, FAULTS);
      setNameError(undefined);
      if (field) setStep(STEP_OF[field]);
    },
  });
  const created: Schemas["CreatedTunnel"] | undefined = create.data;
  const fault = fieldAtFault(create.error, FAULTS);
  const refusal = (field: Field) =>
    fault === field ? <Refusal error={create.error} /> : undefined;
  useSecretGuard(created !== undefined && !isKept, "secret");
  const forgetErrors = () => {
    setNameError(undefined);
    create.reset();
  };
  const next = (event: FormEvent) => {
    event.preventDefault();
    if (step === 0 && !NAME.test(name)) {
      setNameError(
        name ? "Use 1 to 63 of a-z, 0-9 and -, with no - at either end" : "Give the tunnel a name",
      );
      return;
    }
    if (step < 2) setStep(step + 1);
    else create.mutate();
  };
  return (
    <Stack>
      <Stepper active={step} size="sm" allowNextStepsSelect={false} aria-label="Steps">
        {["Name", "Access", "How it runs", "Connect"].map((label) => (
          <Stepper.Step key={label} label={label} component="div" />
        ))}
      </Stepper>
      <Card withBorder className="card" p="lg">
        {created ? (
          <Waiting
            created={created}
            recipe={recipe}
            onRecipe={setRecipe}
            onKept={() => setKept(true)}
          />
        ) : (
          <form onSubmit={next} noValidate aria-label="Create a tunnel">
            <Stack maw={620}>
              {create.error && !fault && <ProblemAlert error={create.error} />}
              {step === 0 && (
                <>
                  <TextInput
                    label="What people call it"
                    placeholder="Office network"
                    data-autofocus
                    maxLength={128}
                    value={displayName}
                    error={refusal("displayName")}
                    onChange={(event) => {
                      setDisplayName(event.currentTarget.value);
                      forgetErrors();
                    }}
                  />
                  <TextInput
                    label="Name"
                    description="Stands in URLs and in proxy credentials. It never changes."
                    placeholder="office"
                    spellCheck={false}
                    autoCapitalize="none"
                    value={name}
                    error={nameError ?? refusal("name")}
                    onChange={(event) => {
                      setOwnName(event.currentTarget.value);
                      forgetErrors();
                    }}
                  />
                </>
              )}
              {step === 1 && (
                <AccessForm
                  value={access}
                  error={refusal("access")}
                  onChange={(next) => {
                    setAccess(next);
                    create.reset();
                  }}
                />
              )}
              {step === 2 && (
                <Radio.Group
                  label="How will the connector run?"
                  value={recipe}
                  onChange={setRecipe}
                >
                  <Stack gap="sm" mt="sm">
                    {RECIPES.map(({ id, label, about }) => (
                      <Radio key={id} value={id} label={label} description={about} />
                    ))}
                  </Stack>
                </Radio.Group>
              )}
              <Group justify="space-between" mt="sm">
                {step === 0 ? (
                  <GoButton to="/admin/tunnel" variant="default">
                    Cancel
                  </GoButton>
                ) : (
                  <Button
                    variant="default"
                    onClick={() => setStep(step - 1)}
                    disabled={create.isPending}
                  >
                    Back
                  </Button>
                )}
                <Button type="submit" loading={create.isPending}>
                  {step === 2 ? "Create the tunnel" : "Next"}
                </Button>
              </Group>
              {step === 2 && (
                <>
                  <Text size="sm" c="dimmed">
                    The tunnel's secret comes next. It is shown once.
                  </Text>
                  <ApiCall method="POST" path="/api/v1/admin/tunnel" body={body} />
                </>
              )}
            </Stack>
          </form>
        )}
      </Card>
    </Stack>
  );
}
