import { answer, door } from "@/api/client";
import { me, queryClient } from "@/api/queries";
import { session } from "@/api/session";

/** After the server has begun a session: who is it? */
export async function begun(): Promise<void> {
  const user = await answer(door.GET("/api/v1/me"));
  queryClient.setQueryData(me.queryKey, user);
  session.signedIn(user.id, user.csrf_token ?? "");
}

export async function signIn(email: string, password: string): Promise<void> {
  await answer(door.POST("/api/v1/session", { body: { email, password } }));
  await begun();
}
