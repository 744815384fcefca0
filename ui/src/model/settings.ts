// Memory settings as a form: what is typed becomes a change, with the rule beside each field that breaks one.
// Pure. The rules are the daemon's (core's settings.rs); it has the last word.
import type { MemoryPatch, SettingsView } from "../api/types";
import { exact } from "./format";
import { parseSize } from "./size";

export const FIELDS = [
  "dynamic",
  "startup",
  "minimum",
  "maximum",
  "buffer",
  "weight",
  "demand_model",
  "smart_paging_folder",
] as const;
export type Field = (typeof FIELDS)[number];

/** What is in the fields, as typed. */
export type Draft = { dynamic: boolean } & Record<Exclude<Field, "dynamic">, string>;
export type Faults = Partial<Record<Field, string>>;

export const TITLES: Record<Field, string> = {
  dynamic: "Dynamic memory",
  startup: "Startup",
  minimum: "Minimum",
  maximum: "Maximum",
  buffer: "Buffer",
  weight: "Weight",
  demand_model: "Demand model",
  smart_paging_folder: "Smart paging folder",
};

const MIB = 2 ** 20;
const BLOCK = 2 * MIB;
const FLOOR = 32 * MIB;
const CEILING = 32 * 2 ** 40;

export function draftOf(settings: SettingsView): Draft {
  return {
    dynamic: settings.dynamic,
    startup: exact(settings.startup_bytes),
    minimum: exact(settings.minimum_bytes),
    maximum: exact(settings.maximum_bytes),
    buffer: String(settings.buffer_percent),
    weight: String(settings.weight),
    demand_model: settings.demand_model,
    smart_paging_folder: settings.smart_paging_folder ?? "",
  };
}

/** Fields in which two settings differ. */
export function differences(a: SettingsView, b: SettingsView): Field[] {
  const [one, other] = [draftOf(a), draftOf(b)];
  return FIELDS.filter((field) => one[field] !== other[field]);
}

/** A field as people read it. */
export function shown(settings: SettingsView, field: Field): string {
  const value = draftOf(settings)[field];
  if (typeof value === "boolean") return value ? "on" : "off";
  return field === "buffer" ? `${value}%` : value || "the daemon's own";
}

/** What the draft changes, and which rules it breaks. */
export function check(base: SettingsView, draft: Draft): { patch: MemoryPatch; faults: Faults } {
  const faults: Faults = {};
  const patch: MemoryPatch = {};
  const before = draftOf(base);
  const size = (field: "startup" | "minimum" | "maximum", now: number): number => {
    if (draft[field].trim() === before[field]) return now;
    const bytes = parseSize(draft[field]);
    if (typeof bytes === "string") {
      faults[field] = bytes;
      return now;
    }
    if (bytes !== now) patch[field] = bytes;
    if (bytes % BLOCK !== 0) {
      const below = bytes - (bytes % BLOCK);
      faults[field] =
        `${TITLES[field]} ${exact(bytes)} is not a multiple of 2MiB: the nearest are ${exact(below)} and ${exact(below + BLOCK)}`;
    }
    return bytes;
  };
  const startup = size("startup", base.startup_bytes);
  const minimum = size("minimum", base.minimum_bytes);
  const maximum = size("maximum", base.maximum_bytes);
  const range = (field: Field, value: number, [least, leastIs]: End, [most, mostIs]: End): void => {
    if (faults[field] || (value >= least && value <= most)) return;
    faults[field] =
      `${TITLES[field]} ${exact(value)} is out of range: it must be at least ${exact(least)} (${leastIs}) and at most ${exact(most)} (${mostIs})`;
  };
  const [floor, ceiling]: [End, End] = [
    [FLOOR, "the smallest VM"],
    [CEILING, "the largest VM"],
  ];
  range("startup", startup, floor, ceiling);
  if (draft.dynamic) {
    range("minimum", minimum, floor, [startup, "startup"]);
    range("maximum", maximum, [startup, "startup"], ceiling);
  }
  if (draft.dynamic !== base.dynamic) patch.dynamic = draft.dynamic;
  number(draft.buffer, 5, 2000, "Buffer", "from 5% to 2000%", (value, fault) => {
    if (fault) faults.buffer = fault;
    else if (value !== base.buffer_percent) patch.buffer = value;
  });
  number(draft.weight, 1, 10_000, "Weight", "a whole number from 1 to 10000", (value, fault) => {
    if (fault) faults.weight = fault;
    else if (value !== base.weight) patch.weight = value;
  });
  if (draft.demand_model !== base.demand_model) {
    patch.demand_model = draft.demand_model as SettingsView["demand_model"];
  }
  const folder = draft.smart_paging_folder.trim();
  if (folder !== (base.smart_paging_folder ?? "")) patch.smart_paging_folder = folder;
  return { patch, faults };
}

type End = [bytes: number, what: string];

function number(
  text: string,
  least: number,
  most: number,
  title: string,
  rule: string,
  take: (value: number, fault: string | null) => void,
): void {
  const words = text.trim().replace(/%$/, "").trim();
  const value = /^\d{1,9}$/.test(words) ? Number(words) : NaN;
  const isFine = value >= least && value <= most;
  take(value, isFine ? null : `${title} ${text.trim().slice(0, 40) || "nothing"} is out of range: it must be ${rule}`);
}

export const isEmpty = (patch: MemoryPatch): boolean => Object.keys(patch).length === 0;

/** The field that the daemon's sentence is about, if it names one. */
export function fieldOf(sentence: string): Field | null {
  const rule = sentence.replace(/^Can't change [^ ]+: /, "");
  return FIELDS.find((field) => rule.startsWith(`${TITLES[field]} `)) ?? null;
}

/** A draft for other settings, with what a person has changed in it and nothing else. */
export function rebase(draft: Draft, from: SettingsView, to: SettingsView): Draft {
  const before = draftOf(from);
  const kept = FIELDS.filter((field) => draft[field] !== before[field]).map((field) => [field, draft[field]]);
  return { ...draftOf(to), ...(Object.fromEntries(kept) as Partial<Draft>) };
}
