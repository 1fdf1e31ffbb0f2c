import { useNavigate, useSearch } from "@tanstack/react-router";
import { Door } from "./Door";
import { SignInForm } from "./SignInForm";

export function Login() {
  const { to } = useSearch({ from: "/login" });
  const navigate = useNavigate();
  return (
    <Door title="Sign in">
      <SignInForm onDone={() => void navigate({ to: to ?? "/" })} />
    </Door>
  );
}
