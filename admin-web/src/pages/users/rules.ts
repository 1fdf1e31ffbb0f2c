/** What the API asks of a user's particulars, said before anything is sent. */
import type { Schemas } from "@/api/client";

export const MIN_PASSWORD = 8;
export const MANAGES_TUNNELS: Schemas["Permission"] = "TUNNEL_MANAGE";

export const isEmail = (text: string) => /^[^\s@]+@\S+$/.test(text.trim());

export const isPassword = (text: string) => [...text].length >= MIN_PASSWORD;
