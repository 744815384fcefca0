// What a browser loads first: the page, and what it names.
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** Its bytes, compressed, of the page that was built into `dist`. */
export function firstLoad(dist) {
  const page = readFileSync(join(dist, "index.html"), "utf8");
  const named = [...page.matchAll(/(?:src|href)="\.\/([^"]+)"/g)].map(([, name]) => name);
  return ["index.html", ...named].reduce((sum, name) => sum + statSync(join(dist, `${name}.gz`)).size, 0);
}
