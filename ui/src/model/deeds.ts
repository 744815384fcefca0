// What can be done with a VM in each state. Pure; the daemon has the last word.
import type { StopRequest, VmView } from "../api/types";

export interface Deed {
  word: string;
  /** While it is under way. */
  doing: string;
  method: "POST" | "DELETE";
  /** Behind the VM's own path. */
  path: string;
  body?: StopRequest;
  /** What is asked first, where something would be lost. */
  question?: string;
}

const START: Deed = { word: "Start", doing: "starting", method: "POST", path: "/start" };
const SHUT_DOWN: Deed = {
  word: "Shut down",
  doing: "shutting down",
  method: "POST",
  path: "/stop",
  body: { mode: "graceful", timeout_seconds: 60 },
  question: "Its guest is asked to power off and has a minute. Then it is switched off.",
};
const RESTART: Deed = {
  word: "Restart",
  doing: "restarting",
  method: "POST",
  path: "/restart",
  question: "Its guest is asked to shut down, has a minute, and boots again.",
};
const CUT: Deed = {
  word: "Switch off",
  doing: "switching off",
  method: "POST",
  path: "/stop",
  body: { mode: "force", timeout_seconds: 60 },
  question: "It ends at once, as if its plug was pulled. What its guest has not written is lost.",
};
const PAUSE: Deed = { word: "Pause", doing: "pausing", method: "POST", path: "/pause" };
const RESUME: Deed = { word: "Resume", doing: "resuming", method: "POST", path: "/resume" };
const SAVE: Deed = {
  word: "Save",
  doing: "saving",
  method: "POST",
  path: "/save",
  question: "Its memory is written to a file and is free then. A start goes on from there.",
};
const DISCARD: Deed = {
  word: "Discard what is saved",
  doing: "discarding",
  method: "DELETE",
  path: "/saved",
  question: "What was in its memory when it was saved is lost. Its disks stay.",
};

const BY_STATE: Record<VmView["state"], readonly Deed[]> = {
  off: [START],
  failed: [START],
  saved: [START, DISCARD],
  starting: [CUT],
  booting: [SHUT_DOWN, CUT],
  running: [SHUT_DOWN, RESTART, PAUSE, SAVE, CUT],
  paused: [RESUME, SAVE, CUT],
  stopping: [CUT],
  saving: [],
};

export function deeds(state: VmView["state"]): readonly Deed[] {
  return BY_STATE[state] ?? [];
}
