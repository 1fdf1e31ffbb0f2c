/** Does a text hold each word of a search, in any case? */
export function fits(text: string, search: string | undefined): boolean {
  const words = (search ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}

/** A text of a URL's search, if there is one. */
export function searchText(value: unknown): string | undefined {
  // The router reads `?q=12` as a number.
  if (typeof value === "number") return String(value);
  return typeof value === "string" && value ? value : undefined;
}
