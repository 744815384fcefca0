// Which VMs are listed, and in which order. Pure.
import type { VmView } from "../api/types";
import { badness } from "./status";

export type Order = "name" | "status" | "assigned" | "demand" | "pressure";

export interface Sorting {
  order: Order;
  reversed: boolean;
}

/** Everything but the name has the most first. */
const KEYS: Record<Exclude<Order, "name">, (vm: VmView) => number> = {
  status: badness,
  assigned: (vm) => vm.assigned_bytes,
  demand: (vm) => vm.demand_bytes,
  pressure: (vm) => vm.pressure_percent ?? -1,
};

/** The names of the VMs that pass the filter, in their order; `vms` are sorted by name. */
export function rows(vms: readonly VmView[], filter: string, { order, reversed }: Sorting): string[] {
  const part = filter.trim().toLowerCase();
  const passing = part ? vms.filter((vm) => vm.name.toLowerCase().includes(part)) : [...vms];
  if (order !== "name") {
    const key = KEYS[order];
    passing.sort((a, b) => key(b) - key(a)); // stable: names decide between equals
  }
  if (reversed) passing.reverse();
  return passing.map((vm) => vm.name);
}

/** The same order again is the other way round. */
export function sortBy(now: Sorting, order: Order): Sorting {
  return { order, reversed: order === now.order && !now.reversed };
}

export function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, at) => name === b[at]);
}
