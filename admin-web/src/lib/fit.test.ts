import { expect, test } from "vitest";
import { fits, searchText } from "./fit";

test("each word of a search must be there, in any case", () => {
  expect(fits("Office network", "NET off")).toBe(true);
  expect(fits("Office network", "office lab")).toBe(false);
  expect(fits("Office network", undefined)).toBe(true);
});

test("numbers of a URL are texts, nonsense is nothing", () => {
  expect(searchText(12)).toBe("12");
  expect(searchText("")).toBeUndefined();
  expect(searchText(["a"])).toBeUndefined();
});
