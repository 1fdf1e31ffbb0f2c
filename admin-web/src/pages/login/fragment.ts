/** The secret behind the `#` of a link. Taken out of the address at once, so that it stays in no history. */
let taken: string | undefined;

export function takeFragment(): string {
  const { hash } = location;
  if (hash.length > 1) {
    taken = hash.slice(1);
    history.replaceState(history.state, "", location.pathname);
  }
  return taken ?? "";
}
