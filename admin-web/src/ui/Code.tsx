import { Box, Group, Code as MantineCode } from "@mantine/core";
import { Copy } from "./Copy";

/** Something to be pasted elsewhere. `shown` replaces what is secret while it is masked. */
export function Code({ text, shown, label }: { text: string; shown?: string; label: string }) {
  return (
    <Box>
      <section aria-label={label}>
        <MantineCode block tabIndex={0}>
          {shown ?? text}
        </MantineCode>
      </section>
      <Group justify="flex-end" mt={6}>
        <Copy text={text} label={`Copy ${inSentence(label)}`} />
      </Group>
    </Box>
  );
}

/** In the midst of a sentence; what is all capitals stays so. */
const inSentence = (label: string) =>
  label.replace(/^[A-Z](?![A-Z])/, (first) => first.toLowerCase());
