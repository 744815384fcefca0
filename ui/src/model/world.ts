// The host, its VMs and what happened, as all that was told comes to. One signal for each VM: a row is
// drawn again when its VM changed, and not when another did.
import { type Signal, signal } from "@preact/signals";

import type { EventView, HostView, LiveChange, LiveSnapshot, VmView } from "../api/types";

export type Told = ({ kind: "snapshot" } & LiveSnapshot) | ({ kind: "change" } & LiveChange);

/** Demands that are remembered of each VM. */
export const TRAIL_MAX = 120;
/** Events that are remembered. */
export const EVENTS_MAX = 500;

export const host = signal<HostView | null>(null);
/** Counts what was told of the host and its VMs. */
export const told = signal(0);
/** The newest last. */
export const events = signal<readonly EventView[]>([]);
/** Names of all VMs, sorted; another array only if a name came or went. */
export const names = signal<readonly string[]>([]);

const vms = new Map<string, Signal<VmView | null>>();
const trails = new Map<string, number[]>();

/** A VM; null if there is none of that name (yet, or any more). */
export function vmSignal(name: string): Signal<VmView | null> {
  let known = vms.get(name);
  if (!known) {
    known = signal(null);
    vms.set(name, known);
  }
  return known;
}

/** All VMs now, for whoever looks at all of them. Subscribe to `told`. */
export function allVms(): VmView[] {
  const all: VmView[] = [];
  for (const name of names.peek()) {
    const vm = vms.get(name)?.peek();
    if (vm) all.push(vm);
  }
  return all;
}

/** A VM's demands over the last moments, the newest last. Subscribe to `told`. */
export function trail(name: string): readonly number[] {
  return trails.get(name) ?? [];
}

/** Takes in what was told. */
export function apply(news: Told): void {
  host.value = news.host;
  const before = names.peek();
  const present = new Set(news.kind === "snapshot" ? [] : before);
  for (const vm of news.vms) {
    vmSignal(vm.name).value = vm;
    present.add(vm.name);
  }
  if (news.kind === "change") news.gone.forEach((name) => present.delete(name));
  if (present.size !== before.length || before.some((name) => !present.has(name))) {
    before.filter((name) => !present.has(name)).forEach(forget);
    names.value = [...present].sort();
  }
  remember();
  told.value += 1;
}

function forget(name: string): void {
  const gone = vms.get(name);
  if (gone) gone.value = null; // who still shows it learns that it is gone
  vms.delete(name);
  trails.delete(name);
}

function remember(): void {
  for (const name of names.peek()) {
    let past = trails.get(name);
    if (!past) trails.set(name, (past = []));
    past.push(vms.get(name)?.peek()?.demand_bytes ?? 0);
    if (past.length > TRAIL_MAX) past.shift();
  }
}

/** Takes in events, which may be known already. */
export function takeEvents(some: readonly EventView[]): void {
  const known = events.peek();
  const newest = known[known.length - 1]?.id ?? 0;
  if (some.every((event) => event.id > newest)) {
    events.value = [...known, ...some].slice(-EVENTS_MAX);
    return;
  }
  const byId = new Map([...known, ...some].map((event) => [event.id, event]));
  events.value = [...byId.values()].sort((a, b) => a.id - b.id).slice(-EVENTS_MAX);
}
