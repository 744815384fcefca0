// Figures are written as the command line writes them (crates/cli/src/render/size.rs), and sizes are read as
// everywhere (crates/units/src/bytes.rs).
import { expect, test } from "vitest";

import { duration, exact, human, moment, percent } from "../src/model/format";
import { parseSize } from "../src/model/size";

const MIB = 2 ** 20;

test("sizes are whole or have one decimal, as on the command line", () => {
  for (const [bytes, text] of [
    [0, "0"],
    [1, "0.0 MiB"],
    [100 * 1024, "0.1 MiB"],
    [MIB, "1 MiB"],
    [1000 * MIB, "1000 MiB"],
    [512.5 * MIB, "512.5 MiB"],
    [2 ** 30, "1 GiB"],
    [1536 * MIB, "1.5 GiB"],
    [2 ** 30 - 1, "1024.0 MiB"],
    [2 ** 30 + 1, "1.0 GiB"],
    [2 ** 40, "1 TiB"],
  ] as const) {
    expect(human(bytes)).toBe(text);
  }
});

test("settings are written without rounding and read back as they were", () => {
  for (const bytes of [32 * MIB, 1536 * MIB, 2 ** 30, 2 ** 40, 3 * 2 ** 40, 5000, 0]) {
    expect(parseSize(exact(bytes))).toBe(bytes);
  }
  expect(exact(1536 * MIB)).toBe("1536MiB");
});

test("what people type as a size is read, and what is none is refused with the form", () => {
  for (const text of ["2G", "2GB", "2GiB", "2gib", " 2 GiB ", "2048m", "2147483648", "2147483648B"]) {
    expect(parseSize(text), text).toBe(2 ** 31);
  }
  for (const text of ["", "much", "1.5G", "-1G", "3é", "2 G iB", "0x10", "1e3"]) {
    expect(parseSize(text), text).toContain("is not a size: write a whole number and a unit");
  }
  expect(parseSize("99999999999P")).toContain("more than there can be");
});

test("times are told in two units, and the day only when it is another", () => {
  expect([0, 59, 60, 3661, 90_061, 172_800].map(duration)).toEqual([
    "0 s",
    "59 s",
    "1 min",
    "1 h 1 min",
    "1 d 1 h",
    "2 d",
  ]);
  const now = new Date(2026, 10, 22, 12, 0, 5).getTime();
  expect(moment(now, now)).toBe("12:00:05");
  expect(moment(now - 86_400_000, now)).toBe("21 Nov 12:00:05");
  expect([percent(83), percent(null), percent(undefined)]).toEqual(["83%", "–", "–"]);
});
