import { expect, test } from "vitest";
import { apiCall, quoted } from "./curl";

test("a word is quoted only where a shell would read it in another way", () => {
  expect(quoted("http://a.example/b?c")).toBe("'http://a.example/b?c'");
  expect(quoted("office:ppt1_x-y")).toBe("office:ppt1_x-y");
  expect(quoted("it's")).toBe(String.raw`'it'\''s'`);
  expect(quoted("")).toBe("''");
});

test("a call holds its body, and a placeholder for the key", () => {
  expect(apiCall("POST", "https://p.example/api/v1/teams", { name: "Bob's" })).toBe(
    String.raw`curl -sS -X POST https://p.example/api/v1/teams \
  -H "Authorization: Bearer $POSTERN_KEY" \
  -H 'Content-Type: application/json' \
  -d '{"name":"Bob'\''s"}'`,
  );
  expect(apiCall("DELETE", "https://p.example/x")).not.toContain("-d ");
});
