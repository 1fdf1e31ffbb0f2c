/** Around pages that not everybody may see. */
import { Outlet, useRouteContext } from "@tanstack/react-router";
import { managesTunnels } from "@/api/queries";
import { Page } from "@/ui/Page";
import { Empty } from "@/ui/states";

export function Tunnels() {
  const { user } = useRouteContext({ from: "/framed" });
  if (managesTunnels(user)) return <Outlet />;
  return (
    <Page title="Tunnels">
      <Empty title="You may not manage tunnels">
        This needs the permission TUNNEL_MANAGE. Ask an owner of your tenant for it.
      </Empty>
    </Page>
  );
}

export function Users() {
  const { user } = useRouteContext({ from: "/framed" });
  if (user.is_owner) return <Outlet />;
  return (
    <Page title="Users">
      <Empty title="You may not see users">Owners of your tenant look after them.</Empty>
    </Page>
  );
}
