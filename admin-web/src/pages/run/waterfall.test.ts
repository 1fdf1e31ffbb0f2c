import { expect, test } from "vitest";
import { hex, pretty } from "./show";
import { bars } from "./waterfall";

test("phases follow one another and never run over the whole", () => {
  const all = bars(
    [
      { phase: "link", microseconds: 250 },
      { phase: "first_byte", microseconds: 750 },
    ],
    2_000,
  );
  expect(all.map(({ label, start, width }) => [label, start, width])).toEqual([
    ["Link", 0, 0.125],
    ["First byte", 0.125, 0.375],
  ]);
  const over = bars([{ phase: "body", microseconds: 10 }], 5);
  expect(over[0]).toMatchObject({ start: 0, width: 1 });
});

test("JSON is shown indented, other text as it is", () => {
  expect(pretty('{"a":[1]}')).toBe('{\n  "a": [\n    1\n  ]\n}');
  expect(pretty("hello")).toBe("hello");
  expect(pretty('{"cut":')).toBe('{"cut":');
});

test("bytes are shown as hexadecimal with their text", () => {
  expect(hex(btoa("\x00Postern\xff"))).toBe(
    "00000000  00 50 6f 73 74 65 72 6e ff                       .Postern.",
  );
});
