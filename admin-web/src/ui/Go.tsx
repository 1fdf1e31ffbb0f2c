/** Links within the console that look like the component library's. */
import { Anchor, type AnchorProps, Button, type ButtonProps } from "@mantine/core";
import { createLink } from "@tanstack/react-router";
import { forwardRef } from "react";

export const Go = createLink(
  forwardRef<HTMLAnchorElement, AnchorProps & { children?: React.ReactNode }>((props, ref) => (
    <Anchor ref={ref} {...props} />
  )),
);

export const GoButton = createLink(
  forwardRef<HTMLAnchorElement, ButtonProps & { children?: React.ReactNode }>((props, ref) => (
    <Button component="a" ref={ref} {...props} />
  )),
);
