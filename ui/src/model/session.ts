// Who we are to the daemon, and whether it is there.
import { computed, signal } from "@preact/signals";

export type Session =
  | { state: "asking" }
  | { state: "token"; sentence: string }
  | { state: "open"; daemonVersion: string; readOnly: string | null };

export type LinkState =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "lost"; sentence: string; retryAt: number };

/** The version of this page. */
export const PAGE_VERSION = __VERSION__;

export const session = signal<Session>({ state: "asking" });
export const link = signal<LinkState>({ state: "connecting" });

/** Why nothing can be changed, or null. */
export const readOnly = computed(() => (session.value.state === "open" ? session.value.readOnly : null));

/** The daemon's version, if it is not ours. */
export const otherVersion = computed(() => {
  const now = session.value;
  return now.state === "open" && now.daemonVersion !== PAGE_VERSION ? now.daemonVersion : null;
});
