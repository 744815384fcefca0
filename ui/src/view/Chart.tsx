// One chart: uPlot, our colours, events as marks on its time line, and keys.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

import type { EventView } from "../api/types";
import { glyph } from "../model/glyph";
import { human, moment } from "../model/format";
import type { Columns, Line } from "../model/series";

export interface ChartEvents {
  zoom: (from: number, to: number) => void;
  key: (key: string, shift: boolean) => boolean;
  reset: () => void;
}

interface Props {
  title: string;
  lines: readonly Pick<Line<never, never>, "label" | "unit" | "ink" | "dash" | "filled">[];
  data: Columns;
  /** Another one whenever `data` has changed. */
  version: number;
  bounds: [number, number];
  events: readonly EventView[];
  height: number;
  on: ChartEvents;
}

export function Chart({ title, lines, data, version, bounds, events, height, on }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const now = useRef({ events, on });
  now.current = { events, on };
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const make = (): void => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element, lines, height, now), data as uPlot.AlignedData, element);
      plot.current.setScale("x", { min: bounds[0], max: bounds[1] });
    };
    make();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }));
    resized.observe(element);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", make);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", make);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [lines]);
  useEffect(() => {
    const chart = plot.current;
    if (!chart) return;
    chart.batch(() => {
      chart.setData(data as uPlot.AlignedData, false);
      chart.setScale("x", { min: bounds[0], max: bounds[1] });
    });
  }, [version, bounds[0], bounds[1]]);
  const press = (event: KeyboardEvent): void => {
    const chart = plot.current;
    if (!chart) return;
    if (!event.shiftKey && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      step(chart, event.key === "ArrowLeft" ? -1 : 1);
      event.preventDefault();
    } else if (on.key(event.key, event.shiftKey)) {
      event.preventDefault();
    }
  };
  return (
    <figure class="chart" tabIndex={0} onKeyDown={press} aria-label={`${title}. ${summary(lines, data)}`} data-points={data[0]?.length ?? 0}>
      <figcaption>{title}</figcaption>
      <div ref={place} />
    </figure>
  );
}

/** The last values in words, for who can't see lines. */
function summary(lines: Props["lines"], data: Columns): string {
  const last = (at: number): string => shown(lines[at]?.unit ?? "bytes", data[at + 1]?.at(-1) ?? null);
  return lines.map(({ label }, at) => `${label} ${last(at)}`).join(", ");
}

function shown(unit: "bytes" | "percent", value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  return unit === "bytes" ? human(value) : `${Math.round(value)}%`;
}

/** The cursor goes to the next point that is seen. */
function step(chart: uPlot, by: number): void {
  const times = chart.data[0];
  const { min = 0, max = 0 } = chart.scales["x"] ?? {};
  const first = times.findIndex((time) => time >= (min ?? 0));
  let last = times.length - 1;
  while (last > first && (times[last] ?? 0) > (max ?? 0)) last -= 1;
  const at = chart.cursor.idx ?? last + 1;
  const to = Math.max(first, Math.min(last, at + by));
  const time = times[to];
  if (time !== undefined) chart.setCursor({ left: chart.valToPos(time, "x"), top: 10 });
}

/** Without a cursor the legend tells the newest values. */
function last(chart: uPlot): void {
  const count = chart.data[0].length;
  if (count > 0 && (chart.cursor.idx ?? null) === null) chart.setLegend({ idx: count - 1 });
}

/** A colour of the style as a canvas takes it. */
function color(element: HTMLElement, name: string): string {
  return getComputedStyle(element).getPropertyValue(`--${name}`).trim();
}

type Now = { current: { events: readonly EventView[]; on: ChartEvents } };

function options(element: HTMLElement, lines: Props["lines"], height: number, now: Now): uPlot.Options {
  const ink = (name: string): string => color(element, name);
  const unit = lines[0]?.unit ?? "bytes";
  const axis = { stroke: ink("muted"), grid: { stroke: ink("line"), width: 1 }, ticks: { stroke: ink("line"), size: 4 } };
  return {
    width: element.clientWidth,
    height,
    padding: [8, 8, 0, 0],
    cursor: {
      sync: { key: "time" },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => () => (now.current.on.reset(), null) },
    },
    scales: { y: { range: (_chart, _min, max) => [0, Math.max(max ?? 0, unit === "bytes" ? 2 ** 26 : 100) * 1.05] } },
    axes: [
      { ...axis, size: 28, values: (_chart, splits) => clocks(splits), space: 70 },
      {
        ...axis,
        size: 66,
        values: (_chart, splits) => splits.map((value) => shown(unit, value)),
        ...(unit === "bytes" ? { incrs: Array.from({ length: 30 }, (_, power) => 2 ** (20 + power)) } : {}),
      },
    ],
    series: [
      { label: "time", value: (_chart, time) => (time ? moment(time * 1000, Date.now()) : "–") },
      ...lines.map((line) => ({
        label: line.label,
        stroke: ink(line.ink),
        width: line.filled ? 1.5 : 2,
        ...(line.dash ? { dash: line.dash } : {}),
        ...(line.filled ? { fill: ink(`${line.ink}-area`) } : {}),
        points: { show: false },
        value: (_chart: uPlot, value: number | null) => shown(line.unit, value),
      })),
    ],
    hooks: {
      setSelect: [
        (chart) => {
          if (chart.select.width < 5) return;
          const at = (left: number): number => chart.posToVal(left, "x");
          now.current.on.zoom(at(chart.select.left), at(chart.select.left + chart.select.width));
          chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      setData: [last],
      setCursor: [(chart) => chart.cursor.idx ?? last(chart)],
      draw: [(chart) => marks(chart, now.current.events, ink)],
    },
  };
}

/** Times of an axis: days where it is wide, seconds where it is narrow. */
function clocks(splits: readonly number[]): string[] {
  const step = (splits[1] ?? 0) - (splits[0] ?? 0);
  const clock: Intl.DateTimeFormatOptions =
    step < 60 ? { hour: "2-digit", minute: "2-digit", second: "2-digit" } : { hour: "2-digit", minute: "2-digit" };
  const format = new Intl.DateTimeFormat("en-GB", step >= 86_400 ? { day: "numeric", month: "short" } : clock);
  return splits.map((time) => format.format(time * 1000));
}

/** A mark for each event at the foot of the chart; what would lie on the mark of a newer one is left out. */
function marks(chart: uPlot, events: readonly EventView[], ink: (name: string) => string): void {
  const { ctx, bbox } = chart;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  let free = bbox.left + bbox.width;
  for (const event of [...events].reverse()) {
    const left = chart.valToPos(event.time_unix_ms / 1000, "x", true);
    if (left < bbox.left || left > free) continue;
    const sign = glyph(event.kind);
    ctx.fillStyle = ink(sign === "✕" || sign === "!" ? "bad" : "mark");
    ctx.globalAlpha = 0.25;
    ctx.fillRect(left, bbox.top, ratio, bbox.height);
    ctx.globalAlpha = 1;
    ctx.fillText(sign, left, bbox.top + bbox.height - 4 * ratio);
    free = left - 11 * ratio;
  }
  ctx.restore();
}
