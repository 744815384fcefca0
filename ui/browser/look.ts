// Not a test: a daemon with some guests, for people who work on the page. `npm run look` prints where it is.
import { Daemon } from "./daemon";

const daemon = await Daemon.start({ memory: "6GiB" });
const names = ["web01", "web02", "db01", "db02", "mail", "batch", "ci-runner", "cache"];
for (const [at, name] of names.entries()) {
  const buffer = [20, 30, 900, 20, 10, 2000, 100, 400][at] ?? 20;
  await daemon.define(name, { startup: `${256 + 128 * (at % 4)}MiB`, minimum: "64MiB", maximum: `${1 + (at % 3)}GiB`, buffer });
  await daemon.boot(name).catch((error: unknown) => console.error(String(error)));
}
await daemon.define("archive");
await daemon.define("legacy", { dynamic: false, startup: "512MiB" });
await daemon.boot("legacy").catch(() => undefined);
console.log(JSON.stringify({ url: daemon.url, token: daemon.operate, read: daemon.read, folder: daemon.folder }));
setInterval(() => undefined, 1000);
