/** How the console looks. Every colour of text has a contrast of 4.5 to 1 at least, in both themes. */
import {
  Alert,
  type CSSVariablesResolver,
  createTheme,
  type MantineColorsTuple,
  type MantineThemeOverride,
  Modal,
} from "@mantine/core";

const water: MantineColorsTuple = [
  "#e3fafc",
  "#c5f1f7",
  "#99e2ee",
  "#66d0e2",
  "#3bbdd3",
  "#1c9fb7",
  "#0c8599",
  "#0b7285",
  "#095c6b",
  "#064551",
];

export const theme: MantineThemeOverride = createTheme({
  primaryColor: "water",
  colors: { water },
  primaryShade: { light: 7, dark: 8 },
  defaultRadius: "md",
  cursorType: "pointer",
  respectReducedMotion: true,
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
  fontFamilyMonospace: "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace",
  components: {
    // Its colour is in the border; the words have the contrast of all text.
    Alert: Alert.extend({
      defaultProps: { variant: "outline" },
      classNames: { root: "card" },
      styles: { title: { color: "var(--mantine-color-text)" } },
    }),
    // Words, not shouts.
    Badge: { defaultProps: { tt: "none" } },
    Tabs: { classNames: { list: "tabs" } },
    Stepper: { classNames: { steps: "steps", stepBody: "step-body" } },
    // A dialog's head is no banner of the page.
    Modal: Modal.extend({ defaultProps: { attributes: { header: { role: "none" } } } }),
  },
  headings: {
    fontWeight: "650",
    sizes: { h1: { fontSize: "1.5rem" }, h2: { fontSize: "1.1rem" } },
  },
});

export const cssVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    "--mantine-color-dimmed": "#555d66",
    "--mantine-color-placeholder": "#6b737b",
    "--mantine-color-error": "#c92a2a",
    "--mantine-color-anchor": "#0b6577",
    "--postern-healthy": "#237a35",
    "--postern-degraded": "#a15c00",
    "--postern-down": "#c92a2a",
    "--postern-inactive": "#5f6770",
    "--postern-surface": "#ffffff",
    "--postern-canvas": "#f6f8f9",
  },
  dark: {
    "--mantine-color-dimmed": "#a9b1ba",
    "--mantine-color-placeholder": "#98a0a8",
    "--mantine-color-error": "#ff8787",
    "--mantine-color-anchor": "#66d0e2",
    "--postern-healthy": "#69db7c",
    "--postern-degraded": "#ffc078",
    "--postern-down": "#ff8787",
    "--postern-inactive": "#a9b1ba",
    "--postern-surface": "#22262a",
    "--postern-canvas": "#191c1f",
  },
});
