// What all tests of the page have: a daemon of the file's own with a few VMs, a page that is signed in, and a
// watch over it: no request leaves the daemon that served it, and the console has nothing to complain about.
import { fileURLToPath } from "node:url";

import { type Page, test as base, expect } from "@playwright/test";

import { Daemon } from "./daemon";

interface Fixtures {
  /** The page, signed in with a token of role `operate`, on the list. */
  console: Page;
}

interface WorkerFixtures {
  /** web01 and db01 run, spare is off. */
  daemon: Daemon;
}

/** Chromium says this of every answer that is no success, however it is meant. */
const EXPECTED = /Failed to load resource/;

export const test = base.extend<Fixtures, WorkerFixtures>({
  daemon: [
    async ({}, use) => {
      const daemon = await Daemon.start();
      try {
        for (const name of ["web01", "db01"]) {
          await daemon.define(name);
          await daemon.boot(name);
        }
        await daemon.define("spare");
        await use(daemon);
      } finally {
        await daemon.stop();
      }
    },
    { scope: "worker", timeout: 120_000 },
  ],
  page: async ({ page, daemon }, use) => {
    if (process.env["DYNMEM_PAGE"] === "dist") await fromDist(page, daemon);
    const complaints: string[] = [];
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${daemon.url}/`) && !url.startsWith("data:")) complaints.push(`asked ${url}`);
      if (url.includes("dynmem_")) complaints.push(`a token is in ${url}`);
    });
    page.on("pageerror", (error) => complaints.push(error.stack ?? error.message));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()) && !EXPECTED.test(message.text())) complaints.push(message.text());
    });
    await use(page);
    expect(complaints).toEqual([]);
  },
  console: async ({ page, daemon }, use) => {
    await signIn(page, daemon, daemon.operate);
    await use(page);
  },
});

/** The page as it was built last, though the daemon was built before: for people who work on it. */
async function fromDist(page: Page, daemon: Daemon): Promise<void> {
  const dist = fileURLToPath(new URL("../dist/", import.meta.url));
  await page.route(`${daemon.url}/`, (route) => route.fulfill({ path: `${dist}index.html` }));
  await page.route(`${daemon.url}/assets/*`, (route) =>
    route.fulfill({ path: dist + new URL(route.request().url()).pathname.slice(1) }),
  );
}

export async function signIn(page: Page, daemon: Daemon, token: string): Promise<void> {
  await page.goto(`${daemon.url}/`);
  await page.getByLabel("Token", { exact: true }).fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByTestId("link")).toHaveText("live");
}

/** By its address, as a link would. */
export async function visit(page: Page, hash: string): Promise<void> {
  await page.evaluate((to) => {
    location.hash = to;
  }, hash);
}

export { expect };
