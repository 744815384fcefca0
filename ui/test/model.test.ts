// The world as it is told, what is listed, and the host's picture.
import { beforeEach, expect, test } from "vitest";

import { ALONE_MAX, picture } from "../src/model/picture";
import { parse } from "../src/model/route";
import { rows, sortBy } from "../src/model/order";
import { isShort, lack, status } from "../src/model/status";
import { human } from "../src/model/format";
import * as world from "../src/model/world";
import { MIB, host, vm } from "./views";

beforeEach(() => world.apply({ kind: "snapshot", host: host(), vms: [] }));

test("changes upon a snapshot are the world", () => {
  world.apply({ kind: "snapshot", host: host(), vms: [vm("b"), vm("a")] });
  const before = world.names.value;
  world.apply({ kind: "change", host: host(), vms: [vm("b", { vcpus: 2 })], gone: [] });
  expect(world.names.value).toBe(before);
  const shown = world.vmSignal("a");
  world.apply({ kind: "change", host: host(), vms: [vm("c")], gone: ["a"] });
  expect(world.names.value).toEqual(["b", "c"]);
  expect(shown.value).toBeNull();
  expect(world.allVms().map(({ name, vcpus }) => [name, vcpus])).toEqual([
    ["b", 2],
    ["c", 1],
  ]);
  world.apply({ kind: "snapshot", host: host(), vms: [vm("c")] });
  expect(world.names.value).toEqual(["c"]);
});

test("only the rows of VMs that changed are told so", () => {
  world.apply({ kind: "snapshot", host: host(), vms: [vm("a"), vm("b")] });
  const drawn = { a: 0, b: 0 };
  const ends = (["a", "b"] as const).map((name) => world.vmSignal(name).subscribe(() => (drawn[name] += 1)));
  world.apply({ kind: "change", host: host(), vms: [vm("a", { vcpus: 2 })], gone: [] });
  ends.forEach((end) => end());
  expect(drawn).toEqual({ a: 2, b: 1 });
});

test("what is remembered has an end", () => {
  for (let second = 0; second < world.TRAIL_MAX + 50; second += 1) {
    world.apply({ kind: "change", host: host(), vms: [vm("a", { demand_bytes: second })], gone: [] });
    world.takeEvents([{ id: 1000 + second, time_unix_ms: second, kind: "grew", message: "a grew" }]);
  }
  expect(world.trail("a")).toHaveLength(world.TRAIL_MAX);
  expect(world.trail("a").at(-1)).toBe(world.TRAIL_MAX + 49);
  const many = Array.from({ length: 2 * world.EVENTS_MAX }, (_, id) => ({
    id: 5000 + id,
    time_unix_ms: id,
    kind: "grew",
    message: "",
  }));
  world.takeEvents(many);
  expect(world.events.value).toHaveLength(world.EVENTS_MAX);
  world.takeEvents(many.slice(-3)); // known already
  expect(world.events.value).toHaveLength(world.EVENTS_MAX);
  expect(world.events.value.at(-1)?.id).toBe(5000 + 2 * world.EVENTS_MAX - 1);
});

test("rows are filtered, sorted, and names decide between equals", () => {
  const vms = [
    vm("app1", { demand_bytes: 5 }),
    vm("db1", { demand_bytes: 9, memory_status: "low" }),
    vm("db2", { demand_bytes: 5, state: "failed" }),
  ];
  const list = (filter: string, order: "name" | "status" | "demand", reversed = false) =>
    rows(vms, filter, { order, reversed });
  expect(list("", "name")).toEqual(["app1", "db1", "db2"]);
  expect(list("DB", "name", true)).toEqual(["db2", "db1"]);
  expect(list("", "demand")).toEqual(["db1", "app1", "db2"]);
  expect(list("", "status")).toEqual(["db2", "db1", "app1"]);
  expect(sortBy({ order: "name", reversed: false }, "name")).toEqual({ order: "name", reversed: true });
  expect(sortBy({ order: "name", reversed: true }, "demand")).toEqual({ order: "demand", reversed: false });
});

test("a status is a word and a mark, the same as in dynmem top", () => {
  const trouble = [{ kind: "stuck", since_seconds: 3, detail: "It does not move its memory" }];
  const off = { state: "off", memory_status: undefined } as unknown as Parameters<typeof vm>[1];
  for (const [more, text, short] of [
    [{}, "ok", false],
    [{ memory_status: "warning" }, "! warning", true],
    [{ memory_status: "low" }, "!! low", true],
    [{ state: "failed" }, "!! failed", true],
    [{ troubles: trouble }, "! stuck", true],
    [off, "", false],
  ] as const) {
    const one = vm("a", more as Parameters<typeof vm>[1]);
    const { mark, word } = status(one);
    expect(`${mark} ${word}`.trim()).toBe(text);
    expect(isShort(one), text).toBe(short);
  }
  const low = vm("a", { memory_status: "low", demand_bytes: 612 * MIB });
  expect(lack(low, human)).toBe("lacks 100 MiB of its demand");
  expect(lack(vm("a", { memory_status: "warning", target_bytes: 522 * MIB }), human)).toBe("lacks 10 MiB of its buffer");
});

test("the host's picture is all of its memory, whoever has it", () => {
  const vms = [vm("a", { charged_bytes: 1024 * MIB }), vm("b", { charged_bytes: 2048 * MIB }), vm("off", { charged_bytes: 0 })];
  const parts = picture(host({ charged_bytes: 3072 * MIB, available_bytes: 3072 * MIB }), vms);
  expect(parts.map((part) => (part.kind === "vm" ? part.name : part.kind))).toEqual(["reserve", "b", "a", "others", "free"]);
  expect(parts.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1);
  expect(parts.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(8192 * MIB);
});

test("many VMs are drawn in few parts, and none is left out", () => {
  const vms = Array.from({ length: 1000 }, (_, at) => vm(`vm${at}`, { charged_bytes: 4 * MIB }));
  const parts = picture(host({ available_bytes: 0 }), vms);
  expect(parts.length).toBeLessThan(ALONE_MAX + 5);
  const rest = parts.find((part) => part.kind === "rest");
  expect(rest?.kind === "rest" && rest.count).toBe(1000);
  expect(picture(host({ memory_bytes: 0, reserve_bytes: 0, available_bytes: 0 }), [])).toEqual([]);
});

test("addresses lead to pages, and those that do not lead to the list", () => {
  expect(parse("#/vm/web%2001")).toEqual({ page: "vm", name: "web 01" });
  expect(parse("#/host")).toEqual({ page: "host" });
  for (const hash of ["", "#", "#/", "#/vm/", "#/nowhere", "#/vm/%E0%A4%A"]) expect(parse(hash)).toEqual({ page: "list" });
});
