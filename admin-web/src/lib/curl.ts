/** Commands for a shell. */

/** A word for a POSIX shell that stands for exactly this text. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A call of the API by curl. The key comes from the variable POSTERN_KEY. */
export function apiCall(method: string, url: string, body?: unknown): string {
  const parts = [
    `curl -sS -X ${method} ${quoted(url)}`,
    '-H "Authorization: Bearer $POSTERN_KEY"',
    ...(body === undefined
      ? []
      : [
          "-H 'Content-Type: application/json'",
          `-d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`,
        ]),
  ];
  return parts.join(" \\\n  ");
}
