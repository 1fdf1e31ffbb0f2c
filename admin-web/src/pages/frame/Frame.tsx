/** What surrounds every page of somebody who is signed in. */
import { AppShell, Box, Burger, Group, NavLink, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useSuspenseQuery } from "@tanstack/react-query";
import { createLink, Outlet, useLocation } from "@tanstack/react-router";
import { forwardRef, useEffect } from "react";
import { me } from "@/api/queries";
import { Logo } from "@/pages/login/Door";
import { areas } from "./areas";
import { Banner } from "./Banner";
import { Shortcuts } from "./Shortcuts";
import { useStream } from "./stream";
import { UserMenu } from "./UserMenu";

const NavGo = createLink(
  forwardRef<HTMLAnchorElement, { label: string }>((props, ref) => (
    <NavLink ref={ref} {...props} variant="light" />
  )),
);

export function Frame() {
  const { data: user } = useSuspenseQuery(me);
  const stream = useStream();
  const [isOpen, menu] = useDisclosure();
  const { pathname } = useLocation();
  // biome-ignore lint/correctness/useExhaustiveDependencies: whatever page comes next
  useEffect(menu.close, [pathname]);
  return (
    <AppShell
      header={{ height: 56 }}
      navbar={{ width: 220, breakpoint: "sm", collapsed: { mobile: !isOpen } }}
      padding={{ base: "md", md: "xl" }}
      // A page that slides to its place is too wide on its way.
      transitionDuration={0}
    >
      <a href="#main" className="skip">
        Skip to the page
      </a>
      <AppShell.Header className="card">
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="xs" wrap="nowrap">
            <Burger
              opened={isOpen}
              onClick={menu.toggle}
              hiddenFrom="sm"
              size="sm"
              aria-label={isOpen ? "Close the menu" : "Open the menu"}
              aria-expanded={isOpen}
            />
            <Logo />
          </Group>
          <UserMenu user={user} />
        </Group>
      </AppShell.Header>
      <AppShell.Navbar className="card" p="sm" aria-label="Areas">
        {areas(user).map((area) => (
          <NavGo key={area.to} to={area.to} label={area.label} />
        ))}
        <Box mt="auto" p="xs">
          <Text size="xs" c="dimmed">
            Press <kbd>?</kbd> for shortcuts
          </Text>
        </Box>
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1}>
        <Box maw={1280} mx="auto">
          <Banner stream={stream} />
          <Outlet />
        </Box>
      </AppShell.Main>
      <Shortcuts />
    </AppShell>
  );
}
