import { expect, test } from "vitest";
import { Problem } from "@/api/problem";
import { type Faults, fieldAtFault, isConflict, names, refusals } from "./refusal";

const problem = (code: string, detail: string) =>
  new Problem({ code, detail, status: 400, title: "", fix: "" });
const FAULTS: Faults<"name" | "password"> = { name: isConflict, password: names(/password/) };

test("a refusal is told beside the field that it is about", () => {
  expect(fieldAtFault(problem("conflict", "there is one of that name"), FAULTS)).toBe("name");
  expect(fieldAtFault(problem("invalid", "a password must have 8"), FAULTS)).toBe("password");
  expect(Object.keys(refusals(problem("conflict", ""), FAULTS))).toEqual(["name"]);
});

test("what is about no field is told beside none", () => {
  expect(fieldAtFault(problem("invalid", "something else"), FAULTS)).toBeUndefined();
  expect(fieldAtFault(problem("internal", "a password"), FAULTS)).toBeUndefined();
  expect(fieldAtFault(new Error("password"), FAULTS)).toBeUndefined();
  expect(refusals(null, FAULTS)).toEqual({});
});
