// The host as one bar: what is kept for it, what each VM holds, what others use, what there is to give. Pure.
import type { HostView, VmView } from "../api/types";
import { badness } from "./status";

export type Segment = { share: number; bytes: number } & (
  | { kind: "reserve" | "others" | "free" }
  /** `needed` is the part of it that its guest needs now. */
  | { kind: "vm"; name: string; vm: VmView; needed: number }
  /** Those that are too small to be drawn alone. */
  | { kind: "rest"; count: number; isAll: boolean; worst: VmView; needed: number }
);

/** A VM that would be narrower is drawn together with the others of its kind. */
export const SHARE_MIN = 0.003;
/** So many VMs are drawn by themselves. */
export const ALONE_MAX = 120;

/** The parts of the bar from left to right; their shares sum up to 1. */
export function picture(host: HostView, vms: readonly VmView[]): Segment[] {
  const held = vms.map((vm) => ({ vm, bytes: vm.charged_bytes ?? 0 })).filter(({ bytes }) => bytes > 0);
  held.sort((a, b) => b.bytes - a.bytes);
  const charged = held.reduce((sum, { bytes }) => sum + bytes, 0);
  const free = Math.max(0, host.available_bytes ?? 0);
  const reserve = host.reserve_bytes ?? 0;
  const others = Math.max(0, (host.memory_bytes ?? 0) - reserve - charged - free);
  const whole = Math.max(1, reserve + charged + others + free);
  const share = (bytes: number): number => bytes / whole;
  const segments: Segment[] = [];
  if (reserve > 0) segments.push({ kind: "reserve", bytes: reserve, share: share(reserve) });
  const alone = held.filter(({ bytes }, at) => at < ALONE_MAX && share(bytes) >= SHARE_MIN);
  for (const { vm, bytes } of alone) {
    const needed = Math.min(1, vm.demand_bytes / bytes);
    segments.push({ kind: "vm", name: vm.name, vm, bytes, share: share(bytes), needed });
  }
  const rest = held.slice(alone.length);
  const worst = rest.reduce<VmView | null>((most, { vm }) => (most && badness(most) >= badness(vm) ? most : vm), null);
  if (worst) {
    const bytes = rest.reduce((sum, one) => sum + one.bytes, 0);
    const needed = rest.reduce((sum, one) => sum + Math.min(one.bytes, one.vm.demand_bytes), 0) / bytes;
    const [count, isAll] = [rest.length, alone.length === 0];
    segments.push({ kind: "rest", count, isAll, worst, needed, bytes, share: share(bytes) });
  }
  if (others > 0) segments.push({ kind: "others", bytes: others, share: share(others) });
  if (free > 0) segments.push({ kind: "free", bytes: free, share: share(free) });
  return segments;
}
