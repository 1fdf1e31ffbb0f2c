/** What the API says when it says no: problem+json. */
import type { components } from "./schema";

type Body = components["schemas"]["Problem"];

/** A "no" of the API, or of the way to it. */
export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  readonly title: string;
  readonly fix: string;
  /** What uses the thing, where that stands in the way. */
  readonly usedBy: NonNullable<Body["used_by"]>;
  readonly requestId: string | undefined;

  constructor(body: Omit<Body, "type">, requestId?: string) {
    super(body.detail);
    this.name = "Problem";
    this.code = body.code;
    this.status = body.status;
    this.title = body.title;
    this.fix = body.fix;
    this.usedBy = body.used_by ?? [];
    this.requestId = requestId;
  }

  /** Made from an answer that is no success. */
  static from(body: unknown, response: Response): Problem {
    const requestId = response.headers.get("postern-request-id") ?? undefined;
    if (isBody(body)) return new Problem(body, requestId);
    return new Problem(
      {
        code: "no_problem",
        status: response.status,
        title: "The answer is not the control plane's",
        detail: `something answered with status ${response.status}`,
        fix: "Look at what stands between this browser and the control plane: a proxy, a load balancer.",
      },
      requestId,
    );
  }

  /** There was no answer at all. */
  static unreachable(): Problem {
    return new Problem({
      code: "unreachable",
      status: 0,
      title: "The control plane cannot be reached",
      detail: navigator.onLine ? "it does not answer" : "this browser is offline",
      fix: "Check the network, and that Postern runs; then try again.",
    });
  }
}

function isBody(body: unknown): body is Body {
  return (
    typeof body === "object" &&
    body !== null &&
    "code" in body &&
    "detail" in body &&
    typeof body.code === "string" &&
    typeof body.detail === "string"
  );
}
