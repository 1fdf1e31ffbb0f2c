/** A secret that is shown once, inside the commands that start a connector with it. */
import { Stack, Tabs, Text, Title } from "@mantine/core";
import { useState } from "react";
import { Code } from "@/ui/Code";
import { RECIPES } from "./recipes";
import { MASK, ShownOnce } from "./ShownOnce";

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
      <ShownOnce
        secret={secret}
        what="secret"
        file={`${tunnel}-secret.txt`}
        isShown={isShown}
        onShown={setShown}
      >
        If it gets lost, make another one on the tunnel's page.
      </ShownOnce>
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
