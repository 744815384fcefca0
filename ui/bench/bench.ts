// How the page bears many VMs, in real Chromium: the longest frame while a daemon with imitated guests tells of
// all of them each second, and while all of their figures change each second; and the heap after many updates.
// Prints one line of JSON. `cargo xtask bench dashboard` runs it.
import { request } from "node:https";

import { type Browser, type CDPSession, type Page, chromium } from "@playwright/test";

import type { LiveSnapshot } from "../src/api/types";
import { Daemon, until } from "../browser/daemon";
import { firstLoad } from "../tools/first-load.mjs";
import { DIST, Replay } from "./replay";

const isQuick = process.env["QUICK"] === "1";
const VMS = isQuick ? 50 : 500;
const SECONDS = isQuick ? 5 : 60;
/** The heap does not depend on how many VMs there are, and the time that it takes does. */
const REPLAYED_VMS = isQuick ? 10 : 50;
const UPDATES: [number, number] = isQuick ? [1000, 2000] : [1000, 10_000];
const STARTS_AT_ONCE = 8;

interface Frames {
  longest_ms: number;
  /** Longer than 100 ms. */
  late: number;
  count: number;
  long_tasks: number;
  longest_task_ms: number;
}

async function main(): Promise<void> {
  const daemon = await Daemon.start({ memory: `${VMS}GiB` });
  const browser = await chromium.launch({ executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium" });
  try {
    await crowd(daemon);
    const snapshot = await record(daemon);
    const explanation = await daemon.do("GET", "/v1/vms/guest0000/explanation");
    const { version } = (await daemon.do("GET", "/v1/version")) as { version: string };
    const empty = await framesEmpty(browser);
    const live = await framesLive(browser, daemon);
    await daemon.stop(); // its guests take the processors that the page is to have
    const changing = await framesChanging(browser, snapshot, explanation, version);
    const few = { ...snapshot, vms: snapshot.vms.slice(0, REPLAYED_VMS) };
    const [heapList, heapVm] = [
      await heaps(browser, new Replay(few, explanation, version), "#/"),
      await heaps(browser, new Replay(few, explanation, version), "#/vm/guest0000"),
    ];
    const params = { vms: VMS, seconds: SECONDS, replayed_vms: REPLAYED_VMS, updates: UPDATES };
    const found = { heap_list: heapList, heap_vm: heapVm };
    console.log(JSON.stringify({ first_load_bytes: firstLoad(DIST), empty, live, changing, ...found, params }));
  } finally {
    await browser.close();
    await daemon.stop();
  }
}

async function crowd(daemon: Daemon): Promise<void> {
  const names = Array.from({ length: VMS }, (_, at) => `guest${String(at).padStart(4, "0")}`);
  for (const name of names) await daemon.define(name, { startup: "512MiB", minimum: "256MiB", maximum: "4GiB" });
  const rest = [...names];
  const worker = async (): Promise<void> => {
    for (let name = rest.pop(); name; name = rest.pop()) await daemon.boot(name);
  };
  await Promise.all(Array.from({ length: STARTS_AT_ONCE }, worker));
}

/** What a live stream tells first. */
function record(daemon: Daemon): Promise<LiveSnapshot> {
  return new Promise((done, fail) => {
    const headers = { Authorization: `Bearer ${daemon.operate}` };
    const asked = request(`${daemon.url}/v1/live`, { headers, rejectUnauthorized: false }, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (piece: string) => {
        text += piece;
        const [, data] = /^event: snapshot\ndata: (.*)\n\n/.exec(text) ?? [];
        if (!data) return;
        asked.destroy();
        done(JSON.parse(data) as LiveSnapshot);
      });
    });
    asked.on("error", fail);
    asked.end();
  });
}

/** A page with nothing on it, beside the same daemon: what the machine makes of frames by itself. */
async function framesEmpty(browser: Browser): Promise<Frames> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const frames = await watched(page, () => page.waitForTimeout(SECONDS * 1000));
  await page.close();
  return frames;
}

async function framesLive(browser: Browser, daemon: Daemon): Promise<Frames> {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 900 } });
  await context.addInitScript((token) => sessionStorage.setItem("dynmem-token", token), daemon.operate);
  const page = await context.newPage();
  await page.goto(`${daemon.url}/`);
  await page.waitForSelector("[data-vm]");
  const frames = await watched(page, () => new Promise((done) => setTimeout(done, SECONDS * 1000)));
  await context.close();
  return frames;
}

async function framesChanging(browser: Browser, snapshot: LiveSnapshot, explanation: unknown, version: string): Promise<Frames> {
  const replay = new Replay(snapshot, explanation, version);
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  await page.goto(`${await replay.start()}/`);
  await page.waitForSelector("[data-vm]");
  const frames = await watched(page, () => replay.tell(SECONDS, 1000));
  await page.close();
  replay.stop();
  return frames;
}

/** The frames of a page while something goes on; its first second, in which it is laid out, is not in. */
async function watched(page: Page, during: () => Promise<unknown>): Promise<Frames> {
  await page.waitForTimeout(2000);
  await page.evaluate(() => {
    const seen = { longest_ms: 0, late: 0, count: 0, long_tasks: 0, longest_task_ms: 0 };
    Object.assign(window, { seen });
    let before = performance.now();
    const frame = (now: number): void => {
      seen.longest_ms = Math.max(seen.longest_ms, now - before);
      seen.count += 1;
      seen.late += now - before > 100 ? 1 : 0;
      before = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame((now) => {
      before = now;
      requestAnimationFrame(frame);
    });
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) {
        seen.long_tasks += 1;
        seen.longest_task_ms = Math.max(seen.longest_task_ms, duration);
      }
    }).observe({ type: "longtask" });
  });
  await during();
  return page.evaluate(() => (window as unknown as { seen: Frames }).seen);
}

/** Bytes of the heap after the first updates and after all of them, once what is not needed is gone. */
async function heaps(browser: Browser, replay: Replay, hash: string): Promise<[number, number]> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  await page.goto(`${await replay.start()}/${hash}`);
  await page.getByText("live", { exact: true }).first().waitFor();
  const debug = await page.context().newCDPSession(page);
  const used: number[] = [];
  const [first, all] = UPDATES;
  for (const count of [first, all - first]) {
    const word = await replay.tell(count);
    await until(`the page has taken ${count} updates`, 600_000, () => page.getByText(word, { exact: true }).isVisible());
    used.push(await leastHeap(page, debug));
  }
  await page.close();
  replay.stop();
  return [used[0] ?? 0, used[1] ?? 0];
}

/** What a collection leaves differs by some MiB, as code is optimized and caches are dropped: the least counts. */
async function leastHeap(page: Page, debug: CDPSession): Promise<number> {
  let least = Infinity;
  for (let time = 0; time < 8; time += 1) {
    await page.waitForTimeout(250);
    await debug.send("HeapProfiler.collectGarbage");
    const { usedSize } = (await debug.send("Runtime.getHeapUsage")) as { usedSize: number };
    least = Math.min(least, usedSize);
  }
  return least;
}

await main();
