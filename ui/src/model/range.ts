// Which stretch of time a chart shows. Pure; times in seconds since 1970.

export type Range = { kind: "live"; seconds: number } | { kind: "fixed"; from: number; to: number };

export const RANGES: readonly [string, number][] = [
  ["5 min", 300],
  ["1 h", 3600],
  ["24 h", 86_400],
  ["7 d", 604_800],
];

/** Points that a chart has room for. */
const POINTS = 900;
const SPAN_MIN = 10;
const SPAN_MAX = 366 * 86_400;

/** Where it begins and ends. */
export function bounds(range: Range, now: number): [number, number] {
  return range.kind === "live" ? [now - range.seconds, now] : [range.from, range.to];
}

/** Seconds from one point to the next. */
export function stepOf(range: Range): number {
  const [from, to] = bounds(range, 0);
  return Math.max(1, Math.ceil((to - from) / POINTS));
}

/** A stretch that was chosen by hand: no shorter than ten seconds, and not of the future. */
export function fixed(from: number, to: number, now: number): Range {
  const span = Math.min(Math.max(to - from, SPAN_MIN), SPAN_MAX);
  const end = Math.min(Math.round(to), Math.round(now));
  return { kind: "fixed", from: end - Math.round(span), to: end };
}

/** The same middle and another width, where 2 is twice as wide. */
export function zoom(range: Range, factor: number, now: number): Range {
  const [from, to] = bounds(range, now);
  const middle = (from + to) / 2;
  const half = Math.max(SPAN_MIN, (to - from) * factor) / 2;
  return fixed(middle - half, middle + half, now);
}

/** A part of its width to and fro in time. */
export function pan(range: Range, part: number, now: number): Range {
  const [from, to] = bounds(range, now);
  const by = (to - from) * part;
  return fixed(from + by, to + by, now);
}
