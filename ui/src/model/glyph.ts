// A mark for each kind of event: told by its shape, in lists and on the time line.

const GLYPHS: Readonly<Record<string, string>> = {
  grew: "▲",
  shrank: "▼",
  started: "▶",
  stopped: "■",
  failed: "✕",
  "start-refused": "✕",
  "settings-changed": "◆",
  "status-changed": "◐",
  recovered: "✓",
  saved: "▣",
  restored: "▶",
  restarting: "↻",
};

/** What somebody should look at. */
const TROUBLES = new Set([
  "stuck",
  "pinned",
  "silent",
  "no-driver",
  "implausible",
  "agent-refused",
  "agent-floods",
  "at-memory-limit",
  "balloon-emptied",
  "host-pressure",
  "smart-paging-overdue",
  "smart-paging-failed",
  "save-failed",
  "limit-missing",
  "limits-unavailable",
  "definition-damaged",
  "orphan",
]);

/** Kinds that are not known are told by their sentence. */
export function glyph(kind: string): string {
  return GLYPHS[kind] ?? (TROUBLES.has(kind) ? "!" : "●");
}
