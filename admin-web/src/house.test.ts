import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";

const SOURCE = new URL(".", import.meta.url).pathname;

/** Type assertions switch the compiler off; `as const` does not. */
test("no file asserts a type", () => {
  const files = readdirSync(SOURCE, { recursive: true, encoding: "utf8" }).filter(
    (name) => /\.tsx?$/.test(name) && !name.endsWith(".d.ts"),
  );
  expect(files.length).toBeGreaterThan(20);
  const found = files.flatMap((name) => assertions(name, readFileSync(join(SOURCE, name), "utf8")));
  expect(found).toEqual([]);
  expect(
    assertions("a.ts", "const a = {} as const; const b = a as object; const c = <object>a;"),
  ).toHaveLength(2);
});

function assertions(name: string, text: string): string[] {
  const file = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node) => {
    const isConst = ts.isAsExpression(node) && ts.isConstTypeReference(node.type);
    if ((ts.isAsExpression(node) && !isConst) || ts.isTypeAssertionExpression(node)) {
      found.push(`${name}: ${node.getText(file)}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}
