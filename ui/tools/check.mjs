// Whether the generated types and the built page in the repository are what the sources make, and whether the
// first load is small enough. Prints its bytes; fails with a sentence.
//
//   openapi.json ──▶ types ──┐
//   src ──▶ a build beside ──┴──▶ the same as in the repository?
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

import { firstLoad } from "./first-load.mjs";

const FIRST_LOAD_MAX = 100_000;
const ui = fileURLToPath(new URL("..", import.meta.url));
const dist = join(ui, "dist");

function files(folder) {
  return readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name)).isFile());
}

/** Compressed files differ between versions of zlib: what is in them counts. */
function content(path) {
  const bytes = readFileSync(path);
  return path.endsWith(".gz") ? gunzipSync(bytes) : bytes;
}

function differences(made) {
  const names = new Set([...files(made), ...files(dist)]);
  const isOther = (name) =>
    ![made, dist].every((folder) => existsSync(join(folder, name))) ||
    !content(join(made, name)).equals(content(join(dist, name)));
  return [...names].filter(isOther).map((name) => `dist/${name}`);
}

function check() {
  const folder = mkdtempSync(join(tmpdir(), "dynmem-ui-check-"));
  const run = (command, ...words) => execFileSync(join(ui, "node_modules/.bin", command), words, { cwd: ui, stdio: "pipe" });
  try {
    run("openapi-typescript", "../docs/openapi.json", "--output", join(folder, "schema.ts"));
    const isStale = !content(join(folder, "schema.ts")).equals(content(join(ui, "src/api/schema.ts")));
    run("vite", "build", "--outDir", join(folder, "dist"));
    return [...(isStale ? ["src/api/schema.ts"] : []), ...differences(join(folder, "dist"))];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function version(path, pattern) {
  return pattern.exec(readFileSync(join(ui, path), "utf8"))?.[1];
}

const faults = [];
const stale = check();
if (stale.length > 0) faults.push(`Not what the sources make: ${stale.join(", ")}. Run \`cargo xtask ui\` and commit what it changes`);
const bytes = firstLoad(dist);
if (bytes > FIRST_LOAD_MAX) faults.push(`The first load is ${bytes} bytes, and ${FIRST_LOAD_MAX} are the most`);
const ours = version("package.json", /"version": "([^"]+)"/);
const daemons = version("../Cargo.toml", /^version = "([^"]+)"/m);
if (ours !== daemons) faults.push(`package.json has version ${ours}, and the daemon ${daemons}: they go together`);
console.log(`First load: ${bytes} bytes compressed, of ${FIRST_LOAD_MAX}`);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
