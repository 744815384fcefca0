// The form's rules are the daemon's (crates/core/src/settings.rs), to the letter.
import { expect, test } from "vitest";

import { check, differences, draftOf, fieldOf, isEmpty, rebase } from "../src/model/settings";
import { MIB, vm } from "./views";

const base = vm("a").settings;
const typed = (more: Partial<ReturnType<typeof draftOf>>) => check(base, { ...draftOf(base), ...more });

test("what is not changed is no change, however it is written", () => {
  expect(isEmpty(typed({}).patch)).toBe(true);
  expect(isEmpty(typed({ startup: "0.5" }).patch)).toBe(true); // no size
  expect(typed({ startup: " 536870912 " })).toEqual({ patch: {}, faults: {} });
  expect(typed({ maximum: "4 GiB", buffer: "30%" })).toEqual({ patch: { maximum: 4096 * MIB, buffer: 30 }, faults: {} });
});

test("each rule that is broken stands beside its field", () => {
  expect(typed({ minimum: "1GiB" }).faults).toEqual({
    minimum: "Minimum 1GiB is out of range: it must be at least 32MiB (the smallest VM) and at most 512MiB (startup)",
  });
  expect(typed({ maximum: "256MiB" }).faults.maximum).toContain("Maximum 256MiB is out of range: it must be at least 512MiB (startup)");
  expect(typed({ minimum: "255MiB" }).faults.minimum).toBe(
    "Minimum 255MiB is not a multiple of 2MiB: the nearest are 254MiB and 256MiB",
  );
  expect(typed({ startup: "16MiB" }).faults.startup).toContain("at least 32MiB (the smallest VM)");
  for (const buffer of ["4", "2001", "", "x", "-5", "1e2"]) {
    expect(typed({ buffer }).faults.buffer, buffer).toContain("it must be from 5% to 2000%");
  }
  for (const weight of ["0", "10001", "1.5"]) expect(typed({ weight }).faults.weight, weight).toContain("from 1 to 10000");
  expect(Object.keys(typed({ startup: "much", weight: "0" }).faults)).toEqual(["startup", "weight"]);
});

test("of a static VM minimum and maximum are not asked", () => {
  expect(typed({ dynamic: false, startup: "4GiB" })).toEqual({ patch: { dynamic: false, startup: 4096 * MIB }, faults: {} });
});

test("the daemon's sentence goes to the field that it is about", () => {
  expect(fieldOf("Startup can't change from 512MiB to 1GiB while the VM runs: the VM must be off")).toBe("startup");
  expect(fieldOf("Dynamic memory can't change from on to off while the VM runs")).toBe("dynamic");
  expect(fieldOf("Can't change web01: Maximum can't change from 1GiB to 4GiB while the VM runs")).toBe("maximum");
  expect(fieldOf("No VM is named a")).toBeNull();
});

test("on top of somebody else's change only what was typed is kept", () => {
  const theirs = { ...base, maximum_bytes: 8192 * MIB, weight: 100 };
  expect(differences(base, theirs)).toEqual(["maximum", "weight"]);
  const mine = { ...draftOf(base), weight: "9000" };
  const { patch } = check(theirs, rebase(mine, base, theirs));
  expect(patch).toEqual({ weight: 9000 });
});
