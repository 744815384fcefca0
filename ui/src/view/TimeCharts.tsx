// Charts over time: the range above, history from the daemon, and what is told live at their right end.
import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";

import { ask, sentenceOf } from "../api/client";
import type { EventView, HostHistory, VmHistory } from "../api/types";
import { moment } from "../model/format";
import { RANGES, type Range, bounds, fixed, pan, stepOf, zoom } from "../model/range";
import { type Columns, type Line, append, columns } from "../model/series";
import { link } from "../model/session";
import { events, told } from "../model/world";
import { Chart } from "./Chart";

interface Group<P, V> {
  title: string;
  lines: readonly Line<P, V>[];
  height: number;
}

interface Props<P, V> {
  /** Where the history is. */
  path: string;
  groups: readonly Group<P, V>[];
  /** What is so now, or null while there is nothing to draw. */
  live: () => V | null;
  /** Whether an event belongs on the time line. */
  concerns: (event: EventView) => boolean;
}

const nowSeconds = (): number => Date.now() / 1000;

export function TimeCharts<P extends { time_unix_ms: number }, V>({ path, groups, live, concerns }: Props<P, V>) {
  const range = useSignal<Range>({ kind: "live", seconds: 300 });
  const problem = useSignal<string | null>(null);
  const version = useSignal(0);
  const past = useSignal<readonly EventView[]>([]);
  const held = useRef<{ data: Columns[]; step: number }>({ data: [], step: 1 });
  useMemo(() => {
    held.current.data = groups.map(({ lines }) => [[], ...lines.map(() => [])]);
  }, []);

  const isLive = link.value.state === "live";
  const wanted = range.value;
  useEffect(() => {
    if (!isLive) return; // when it is back, all is asked anew: the gap is filled
    const stop = new AbortController();
    const [from, to] = bounds(wanted, nowSeconds());
    const query = `from=${Math.floor(from)}&to=${Math.ceil(to)}&step=${stepOf(wanted)}`;
    ask<VmHistory | HostHistory>(`${path}?${query}`, { signal: stop.signal })
      .then(({ value }) => {
        const history = value as unknown as { points: P[]; step_seconds: number };
        held.current = { step: value.step_seconds, data: groups.map(({ lines }) => columns(history, lines)) };
        past.value = value.events ?? [];
        problem.value = null;
        version.value += 1;
      })
      .catch((error: unknown) => {
        if (!stop.signal.aborted) problem.value = sentenceOf(error);
      });
    return () => stop.abort();
  }, [path, wanted, isLive]);

  useEffect(() => {
    if (wanted.kind !== "live") return;
    return told.subscribe(() => {
      const view = live();
      if (!view) return;
      const { data, step } = held.current;
      const [from, now] = bounds(wanted, nowSeconds());
      const added = groups.map(({ lines }, at) => append(data[at] ?? [], lines, view, now, step, from));
      if (added.some(Boolean)) version.value += 1;
    });
  }, [path, wanted]);

  const shownEvents = useComputed(() => {
    const known = new Set(past.value.map(({ id }) => id));
    return [...past.value, ...events.value.filter((event) => !known.has(event.id))].filter(concerns);
  });
  const on = {
    zoom: (from: number, to: number) => {
      range.value = fixed(from, to, nowSeconds());
    },
    reset: () => {
      range.value = { kind: "live", seconds: 300 };
    },
    key: (key: string, shift: boolean): boolean => {
      const now = nowSeconds();
      const ways: Record<string, () => Range> = {
        "+": () => zoom(range.peek(), 0.5, now),
        "-": () => zoom(range.peek(), 2, now),
        "0": () => ({ kind: "live", seconds: 300 }),
        ...(shift && { ArrowLeft: () => pan(range.peek(), -0.5, now), ArrowRight: () => pan(range.peek(), 0.5, now) }),
      };
      const way = ways[key];
      if (way) range.value = way();
      return way !== undefined;
    },
  };
  const shown = version.value;
  return (
    <section class="panel charts" aria-label="Over time" data-testid="charts">
      <RangeBar range={wanted} set={(next) => (range.value = next)} />
      {problem.value && <p class="problem">✕ The history could not be read: {problem.value}</p>}
      {groups.map(({ title, lines, height }, at) => (
        <Chart
          key={title}
          title={title}
          lines={lines}
          height={height}
          data={held.current.data[at] ?? []}
          version={shown}
          bounds={bounds(wanted, nowSeconds())}
          events={shownEvents.value}
          on={on}
        />
      ))}
    </section>
  );
}

function RangeBar({ range, set }: { range: Range; set: (range: Range) => void }) {
  const way = (change: (range: Range, by: number, now: number) => Range, by: number) => () =>
    set(change(range, by, nowSeconds()));
  return (
    <div class="bar ranges" role="group" aria-label="Stretch of time">
      {RANGES.map(([word, seconds]) => (
        <button
          key={word}
          type="button"
          aria-pressed={range.kind === "live" && range.seconds === seconds}
          onClick={() => set({ kind: "live", seconds })}
        >
          {word}
        </button>
      ))}
      <span class="steps">
        <button type="button" aria-label="Earlier" onClick={way(pan, -0.5)}>
          ◂
        </button>
        <button type="button" aria-label="Later" disabled={range.kind === "live"} onClick={way(pan, 0.5)}>
          ▸
        </button>
        <button type="button" aria-label="Zoom in" onClick={way(zoom, 0.5)}>
          +
        </button>
        <button type="button" aria-label="Zoom out" onClick={way(zoom, 2)}>
          −
        </button>
      </span>
      <span class="muted span" data-testid="span">
        {range.kind === "live"
          ? "live"
          : `${moment(range.from * 1000, Date.now())} – ${moment(range.to * 1000, Date.now())}`}
      </span>
    </div>
  );
}
