// The live stream, through the daemon's restarts:
//
//   version ──▶ role ──▶ newest events ──▶ /v1/live ──told──▶ world
//      ▲                                      │ ended, silent, refused
//      └────────── wait (longer each time) ◀──┘
//
// A 401 ends it: only a person has another token.
import { batch } from "@preact/signals";

import { link, session } from "../model/session";
import { apply, takeEvents } from "../model/world";
import { Refused, Unreachable, ask, open, sentenceOf } from "./client";
import { EventReader } from "./sse";
import type { EventView, LiveChange, LiveSnapshot } from "./types";

/** The daemon says something every 15 s, or it is away. */
const SILENCE_MS = 40_000;
const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 10_000;
/** Events that are asked for when a connection is made. */
const EVENTS = 200;

let wake: (() => void) | null = null;

/** Tries again now, if it waits. */
export function tryNow(): void {
  wake?.();
}

/** Follows the daemon until it wants another token. */
export async function follow(): Promise<void> {
  for (let waits = WAIT_MIN_MS; ; waits = Math.min(waits * 2, WAIT_MAX_MS)) {
    try {
      await greet();
      await listen(() => {
        waits = WAIT_MIN_MS;
      });
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        batch(() => {
          session.value = { state: "token", sentence: error.message };
          link.value = { state: "connecting" };
        });
        return;
      }
      link.value = { state: "lost", sentence: sentenceOf(error), retryAt: Date.now() + waits };
    }
    await sleep(waits);
  }
}

async function greet(): Promise<void> {
  const { value } = await ask<{ version: string }>("/v1/version");
  const readOnly = await whyNotOperate();
  session.value = { state: "open", daemonVersion: value.version, readOnly };
}

/** Why this token may change nothing, if so. OPTIONS changes nothing and takes the right to change. */
async function whyNotOperate(): Promise<string | null> {
  try {
    await ask("/v1/version", { method: "OPTIONS" });
  } catch (error) {
    if (error instanceof Refused && error.status === 403) return error.message;
    if (!(error instanceof Refused)) throw error;
  }
  return null;
}

async function listen(onTold: () => void): Promise<void> {
  const silence = new AbortController();
  const tooLong = (): void => silence.abort(new Unreachable("The daemon has said nothing for too long"));
  let timer = setTimeout(tooLong, SILENCE_MS);
  try {
    const response = await open("/v1/live", { signal: silence.signal });
    if (!response.body) throw new Unreachable("The daemon's stream has no body");
    const missed = ask<EventView[]>(`/v1/events?limit=${EVENTS}`).then(({ value }) => takeEvents(value));
    missed.catch(() => undefined); // those that come live are enough
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Unreachable("The daemon has ended");
      clearTimeout(timer);
      timer = setTimeout(tooLong, SILENCE_MS);
      for (const { name, data } of events.feed(value)) {
        hear(name, data);
        onTold();
      }
    }
  } catch (error) {
    if (error instanceof Refused || error instanceof Unreachable) throw error;
    throw silence.signal.aborted ? silence.signal.reason : new Unreachable("The connection to the daemon was lost");
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

/** Takes in one event of the stream. Names that are not known may come. */
function hear(name: string, data: string): void {
  batch(() => {
    if (name === "snapshot") {
      apply({ kind: "snapshot", ...(JSON.parse(data) as LiveSnapshot) });
      link.value = { state: "live" };
    } else if (name === "change") {
      apply({ kind: "change", ...(JSON.parse(data) as LiveChange) });
    } else if (name === "event") {
      takeEvents([JSON.parse(data) as EventView]);
    }
  });
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      removeEventListener("online", done);
      wake = null;
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
    wake = done;
  });
}
