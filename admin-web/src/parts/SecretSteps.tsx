/**
 * A secret that is shown once, inside the commands that start a connector with it. Masked until
 * *Show*, since somebody may be looking on; *Copy* copies the real one.
 */
import { Alert, Button, Group, Stack, Tabs, Text, Title } from "@mantine/core";
import { useState } from "react";
import { Code } from "@/ui/Code";
import { Copy } from "@/ui/Copy";
import { RECIPES } from "./recipes";

const MASK = "•".repeat(24);

export function SecretSteps({
  secret,
  tunnel,
  recipe,
  onRecipe,
}: {
  secret: string;
  tunnel: string;
  recipe: string;
  onRecipe: (id: string) => void;
}) {
  const [isShown, setShown] = useState(false);
  return (
    <Stack>
      <Alert color="yellow" title="The secret is shown only now">
        <Text size="sm" mb="sm">
          Postern keeps no copy. If it gets lost, make another one on the tunnel's page.
        </Text>
        <Group gap="xs">
          <Button
            size="xs"
            variant="default"
            onClick={() => setShown(!isShown)}
            aria-pressed={isShown}
          >
            {isShown ? "Hide the secret" : "Show the secret"}
          </Button>
          <Copy text={secret} label="Copy the secret" />
          <Button
            size="xs"
            variant="default"
            onClick={() => download(`${tunnel}-secret.txt`, secret)}
          >
            Download the secret
          </Button>
        </Group>
      </Alert>
      <Tabs value={recipe} onChange={(id) => id && onRecipe(id)} keepMounted={false}>
        <Tabs.List>
          {RECIPES.map(({ id, label }) => (
            <Tabs.Tab key={id} value={id}>
              {label}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {RECIPES.map(({ id, about, steps }) => (
          <Tabs.Panel key={id} value={id} pt="md">
            <Stack>
              <Text size="sm" c="dimmed">
                {about}
              </Text>
              {steps.map((step) => (
                <div key={step.title}>
                  <Title order={3} size="sm" mb={6}>
                    {step.title}
                  </Title>
                  <Code
                    label={step.title}
                    text={step.text(secret, tunnel)}
                    shown={step.text(isShown ? secret : MASK, tunnel)}
                  />
                </div>
              ))}
            </Stack>
          </Tabs.Panel>
        ))}
      </Tabs>
    </Stack>
  );
}

function download(name: string, text: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/plain" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
