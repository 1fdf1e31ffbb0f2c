// The last step of the build: puts a gzip and a Brotli form next to each file, checks what the first
// load weighs, and moves all of it to `dist`, from where the control plane embeds it.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const BUILD = new URL("../build/", import.meta.url).pathname;
const DIST = new URL("../dist/", import.meta.url).pathname;
/** What a browser fetches before it shows a page, at most, compressed by gzip: the larger form. */
const FIRST_LOAD_LIMIT = 250 * 1024;
const IS_TEXT = /\.(js|css|svg|txt|md|json)$/;

const files = readdirSync(BUILD, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => relative(BUILD, join(entry.parentPath, entry.name)))
  .filter((name) => !name.startsWith(".vite/"));

for (const name of readdirSync(DIST)) {
  if (name !== ".gitignore") rmSync(join(DIST, name), { recursive: true });
}

const write = (name, content) => {
  mkdirSync(dirname(join(DIST, name)), { recursive: true });
  writeFileSync(join(DIST, name), content);
};
const compressed = new Map();
for (const name of files) {
  const content = readFileSync(join(BUILD, name));
  if (IS_TEXT.test(name)) {
    const gzip = gzipSync(content, { level: 9 });
    compressed.set(name, gzip.length);
    write(`${name}.gz`, gzip);
    const quality = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
    write(`${name}.br`, brotliCompressSync(content, { params: quality }));
  }
  write(name, content);
}
// The licences of all that is in the bundle, under a name that says so.
write("licenses.txt", readFileSync(join(BUILD, ".vite/license.md")));

const html = readFileSync(join(BUILD, "index.html"), "utf8");
if (/<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/.test(html)) {
  throw new Error("index.html has inline code, which the page's Content-Security-Policy forbids");
}
const first = [...html.matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)].map((match) => match[1]);
const size = first.reduce((sum, name) => sum + (compressed.get(name) ?? 0), 0);
console.log(
  `first load: ${first.length} files, ${(size / 1024).toFixed(1)} KiB compressed by gzip`,
);
if (size > FIRST_LOAD_LIMIT) {
  throw new Error(`the first load may weigh ${FIRST_LOAD_LIMIT / 1024} KiB at most`);
}
