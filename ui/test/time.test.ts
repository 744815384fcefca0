// The stream, and what charts draw of it.
import { expect, test } from "vitest";

import type { VmPoint } from "../src/api/types";
import { EventReader } from "../src/api/sse";
import { bounds, fixed, pan, stepOf, zoom } from "../src/model/range";
import { type Columns, POINTS_MAX, VM_PRESSURE, append, columns } from "../src/model/series";
import { vm } from "./views";

test("a stream is read the same in whatever pieces it comes", () => {
  const text = 'event: snapshot\ndata: {"a":1}\n\n: keep-alive\n\nevent: change\ndata: x\ndata: y\n\ndata: z\n\n';
  const expected = [
    { name: "snapshot", data: '{"a":1}' },
    { name: "change", data: "x\ny" },
    { name: "message", data: "z" },
  ];
  for (const size of [1, 2, 3, 7, 1000]) {
    const reader = new EventReader();
    const read = [];
    for (let at = 0; at < text.length; at += size) read.push(...reader.feed(text.slice(at, at + size)));
    expect(read, `pieces of ${size}`).toEqual(expected);
  }
});

test("an event without an end is given up", () => {
  const reader = new EventReader();
  const piece = "x".repeat(8 << 20);
  expect(() => {
    for (let count = 0; count < 20; count += 1) reader.feed(piece);
  }).toThrow("an event has no end");
});

const point = (second: number): VmPoint => ({ time_unix_ms: second * 1000, samples: 1, pressure_percent: 50 }) as VmPoint;

test("where points are missing the line ends", () => {
  const data = columns({ points: [point(100), point(101), point(110)], step_seconds: 1 }, VM_PRESSURE);
  expect(data[0]).toEqual([100, 101, 102, 110]);
  expect(data[1]).toEqual([50, 50, null, 50]);
});

test("what is told live is added at the end, and what is old goes", () => {
  const data: Columns = [[], [], []];
  const view = vm("a", { pressure_percent: 80 });
  for (let second = 0; second < 20_000; second += 1) append(data, VM_PRESSURE, view, 1000 + second, 1, 1000 + second - 300);
  expect(data[0]).toHaveLength(301);
  expect(data[1]?.at(-1)).toBe(80);
  expect(append(data, VM_PRESSURE, view, (data[0]?.at(-1) ?? 0) + 0.3, 1, 0)).toBe(false);
  for (let second = 0; second < 2 * POINTS_MAX; second += 1) append(data, VM_PRESSURE, view, 50_000 + second, 1, 0);
  expect(data.every((column) => column.length <= POINTS_MAX)).toBe(true);
});

test("ranges zoom around their middle, pan, and never reach into the future", () => {
  const now = 10_000;
  expect(bounds({ kind: "live", seconds: 300 }, now)).toEqual([9700, 10_000]);
  expect(zoom({ kind: "live", seconds: 300 }, 0.5, now)).toEqual({ kind: "fixed", from: 9775, to: 9925 });
  expect(zoom({ kind: "fixed", from: 9990, to: 10_000 }, 0.1, now)).toEqual({ kind: "fixed", from: 9990, to: 10_000 });
  expect(pan({ kind: "fixed", from: 9000, to: 9100 }, 1, now)).toEqual({ kind: "fixed", from: 9100, to: 9200 });
  expect(fixed(9900, 12_000, now)).toEqual({ kind: "fixed", from: 7900, to: 10_000 });
  expect(stepOf({ kind: "live", seconds: 300 })).toBe(1);
  expect(stepOf({ kind: "live", seconds: 604_800 })).toBe(672);
});
