/** The console: everything starts here. */
import "@mantine/core/styles.layer.css";
import "@mantine/notifications/styles.layer.css";
import "./styles.css";
import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { setNonce } from "get-nonce";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { queryClient } from "./api/queries";
import { SignInAgain } from "./pages/login/SignInAgain";
import { router } from "./router";
import { cssVariables, theme } from "./theme";

const nonce = document.querySelector('meta[name="csp-nonce"]')?.getAttribute("content") ?? "";
// For the style element that keeps the page from scrolling behind a dialog.
setNonce(nonce);

const root = document.getElementById("root");
if (!root) throw new Error("index.html has an element with the id root");

createRoot(root).render(
  <StrictMode>
    <MantineProvider
      theme={theme}
      defaultColorScheme="auto"
      cssVariablesResolver={cssVariables}
      getStyleNonce={() => nonce}
    >
      <QueryClientProvider client={queryClient}>
        <Notifications position="bottom-right" autoClose={6000} />
        <RouterProvider router={router} />
        <SignInAgain />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
