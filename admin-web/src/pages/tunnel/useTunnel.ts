import { useSuspenseQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { tunnel } from "@/api/queries";

/** The tunnel of the page around; the page has looked it up. */
export function useTunnel() {
  const { name } = useParams({ from: "/framed/tunnels/admin/tunnel/$name" });
  return useSuspenseQuery(tunnel(name)).data;
}
