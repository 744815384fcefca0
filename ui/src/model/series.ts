// What a chart draws: a column of times and one for each line. History fills it, what is told live is added
// to it, and it never holds more than its stretch of time. Pure.
import type { HostHistory, HostPoint, HostView, VmHistory, VmPoint, VmView } from "../api/types";

type Value = number | null | undefined;

/** A line: where it is in a point of the history, and in what is told live. */
export interface Line<P, V> {
  label: string;
  unit: "bytes" | "percent";
  /** The name of its colour and form in the style. */
  ink: string;
  dash?: number[];
  filled?: boolean;
  past: (point: P) => Value;
  live: (view: V) => Value;
}

export type Columns = (number | null)[][];

/** Points at most, whatever somebody tells us. */
export const POINTS_MAX = 4000;

export const VM_MEMORY: readonly Line<VmPoint, VmView>[] = [
  {
    label: "assigned",
    unit: "bytes",
    ink: "assigned",
    filled: true,
    past: (p) => p.assigned_bytes,
    live: (v) => v.assigned_bytes,
  },
  { label: "demand", unit: "bytes", ink: "demand", past: (p) => p.demand_bytes, live: (v) => v.demand_bytes },
  {
    label: "target",
    unit: "bytes",
    ink: "target",
    dash: [6, 4],
    past: (p) => p.target_bytes,
    live: (v) => v.target_bytes,
  },
  {
    label: "guest-visible",
    unit: "bytes",
    ink: "visible",
    dash: [2, 3],
    past: (p) => p.guest_visible_bytes,
    live: (v) => v.guest_visible_bytes,
  },
  {
    label: "balloon",
    unit: "bytes",
    ink: "balloon",
    dash: [10, 3, 2, 3],
    past: (p) => p.ballooned_bytes,
    live: (v) => v.ballooned_bytes,
  },
];

export const VM_PRESSURE: readonly Line<VmPoint, VmView>[] = [
  {
    label: "pressure",
    unit: "percent",
    ink: "demand",
    filled: true,
    past: (p) => p.pressure_percent,
    live: (v) => v.pressure_percent,
  },
  {
    label: "stall",
    unit: "percent",
    ink: "stall",
    dash: [2, 3],
    past: (p) => p.stall_percent,
    live: (v) => v.guest_stall_percent,
  },
];

export const HOST_MEMORY: readonly Line<HostPoint, HostView>[] = [
  {
    label: "to VMs",
    unit: "bytes",
    ink: "assigned",
    filled: true,
    past: (p) => p.charged_bytes,
    live: (v) => v.charged_bytes,
  },
  { label: "free", unit: "bytes", ink: "demand", past: (p) => p.available_bytes, live: (v) => v.available_bytes },
  {
    label: "host available",
    unit: "bytes",
    ink: "visible",
    dash: [2, 3],
    past: (p) => p.host_available_bytes,
    live: (v) => v.host_available_bytes,
  },
];

export const HOST_STALL: readonly Line<HostPoint, HostView>[] = [
  {
    label: "stall",
    unit: "percent",
    ink: "stall",
    filled: true,
    past: (p) => p.stall_percent,
    live: (v) => v.stall_percent,
  },
];

/** Columns of a history; where points are missing the lines end. */
export function columns<P extends { time_unix_ms: number }, V>(
  { points, step_seconds }: Pick<VmHistory | HostHistory, "step_seconds"> & { points: P[] },
  lines: readonly Line<P, V>[],
): Columns {
  const made: Columns = [[], ...lines.map(() => [])];
  let before = -Infinity;
  for (const point of points.slice(-POINTS_MAX)) {
    const time = point.time_unix_ms / 1000;
    if (time - before > step_seconds * 2.5 && before > 0) push(made, before + step_seconds, lines.map(() => null));
    push(made, time, lines.map(({ past }) => past(point)));
    before = time;
  }
  return made;
}

/** Adds what is so now, unless the last point is newer than a step; and forgets what is older than `from`. */
export function append<P, V>(
  data: Columns,
  lines: readonly Line<P, V>[],
  view: V,
  time: number,
  step: number,
  from: number,
): boolean {
  const times = data[0];
  const last = times?.[times.length - 1] ?? -Infinity;
  if (time - last < step * 0.9) return false;
  if (time - last > Math.max(step, 1) * 5 && last > 0) push(data, last + step, lines.map(() => null));
  push(data, time, lines.map(({ live }) => live(view)));
  let old = Math.max(0, (times?.length ?? 0) - POINTS_MAX);
  while (times && old < times.length && (times[old] ?? 0) < from) old += 1;
  if (old > 0) data.forEach((column) => column.splice(0, old));
  return true;
}

function push(data: Columns, time: number, values: readonly Value[]): void {
  data[0]?.push(time);
  values.forEach((value, at) => data[at + 1]?.push(value ?? null));
}
