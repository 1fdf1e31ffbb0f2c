/** A server's "no" beside the field that it is about. */
import { Problem } from "@/api/problem";
import { sentence } from "./states";

/** For each field of a form, how to tell that a problem is about it. */
export type Faults<Field extends string> = Readonly<Record<Field, (problem: Problem) => boolean>>;

export const isConflict = (problem: Problem) => problem.code === "conflict";

/** Does the problem's detail name one of these words? */
export const names =
  (words: RegExp) =>
  (problem: Problem): boolean =>
    problem.code === "invalid" && words.test(problem.message);

/** The first field that a problem is about. */
export function fieldAtFault<Field extends string>(
  error: unknown,
  faults: Faults<Field>,
): Field | undefined {
  if (!(error instanceof Problem)) return undefined;
  for (const field in faults) if (faults[field](error)) return field;
  return undefined;
}

/** The same as errors of a form, by field; none if the problem is about no field. */
export function refusals<Field extends string>(error: unknown, faults: Faults<Field>) {
  const field = fieldAtFault(error, faults);
  return field ? { [field]: <Refusal error={error} /> } : {};
}

/** Words, fix, code and the request's id, in one paragraph. */
export function Refusal({ error }: { error: unknown }) {
  if (!(error instanceof Problem)) return String(error);
  const request = error.requestId ? `, request ${error.requestId}` : "";
  return (
    <span className="wrap-anywhere">
      {sentence(error.message)} {error.fix} Code {error.code}
      {request}.
    </span>
  );
}
