/** Bodies, made readable. */

/** JSON indented; anything else as it is. */
export function pretty(text: string): string {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), undefined, 2);
  } catch {
    return text;
  }
}

const WIDTH = 16;
/** Bytes that are shown: more would only make the page slow. */
const SHOWN = 16 * 1024;

/** A hexadecimal dump of bytes in base64, 16 a line, with what of them is text. */
export function hex(base64: string): string {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).subarray(
    0,
    SHOWN,
  );
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += WIDTH) {
    const part = [...bytes.subarray(at, at + WIDTH)];
    const digits = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = part
      .map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "."))
      .join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${digits.padEnd(WIDTH * 3)} ${text}`);
  }
  return lines.join("\n");
}
