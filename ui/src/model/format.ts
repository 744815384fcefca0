// Figures as the command line prints them.

const UNITS: readonly [string, number][] = [
  ["TiB", 2 ** 40],
  ["GiB", 2 ** 30],
  ["MiB", 2 ** 20],
];

/** A size for people: in the largest unit of which it is at least one, with one decimal where it is not whole. */
export function human(bytes: number): string {
  if (bytes === 0) return "0";
  const [unit, size] = UNITS.find(([, unitBytes]) => Math.abs(bytes) >= unitBytes) ?? ["MiB", 2 ** 20];
  return bytes % size === 0 ? `${bytes / size} ${unit}` : `${(Math.round((bytes * 10) / size) / 10).toFixed(1)} ${unit}`;
}

/** A size without rounding, as settings are written: `1536MiB`. */
export function exact(bytes: number): string {
  for (const [unit, size] of [...UNITS, ["KiB", 2 ** 10] as const]) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return `${bytes}B`;
}

/** A share; `–` for what is not known. */
export function percent(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : `${value}%`;
}

/** A size that may not be known. */
export function humanOr(bytes: number | null | undefined, none = "–"): string {
  return bytes === null || bytes === undefined ? none : human(bytes);
}

export const times = (count: number): string => `${count} ${count === 1 ? "operation" : "operations"}`;

/** A length of time in its two largest units: `3 h 20 min`. */
export function duration(seconds: number): string {
  const parts: readonly [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [Math.floor(seconds) % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** When, by the clock here; with the day if it is not today's. */
export function moment(unixMs: number, nowMs: number): string {
  const clock = CLOCK.format(unixMs);
  const day = DAY.format(unixMs);
  return day === DAY.format(nowMs) ? clock : `${day} ${clock}`;
}
