// How it is with a VM, in a word and a mark that read without colour; the same as `dynmem top`.
import type { VmView } from "../api/types";

export type Tone = "bad" | "odd" | "warn" | "good" | "plain";

export interface Status {
  mark: string;
  word: string;
  tone: Tone;
}

const NONE: Status = { mark: "", word: "", tone: "plain" };
const OFF: readonly string[] = ["off", "saved", "failed"];

/** True if a machine exists, or is about to. */
export function isOn(vm: VmView): boolean {
  return !OFF.includes(vm.state);
}

export function status(vm: VmView): Status {
  const trouble = vm.troubles?.[0];
  if (vm.state === "failed") return { mark: "!!", word: "failed", tone: "bad" };
  if (trouble) return { mark: "!", word: trouble.kind, tone: "odd" };
  if (vm.memory_status === "low") return { mark: "!!", word: "low", tone: "bad" };
  if (vm.memory_status === "warning") return { mark: "!", word: "warning", tone: "warn" };
  if (vm.memory_status === "ok") return { mark: "", word: "ok", tone: "good" };
  return isOn(vm) && !vm.settings.dynamic ? { ...NONE, word: "static" } : NONE;
}

/** How much attention a VM deserves; more is worse. */
export function badness(vm: VmView): number {
  const memory = { low: 2, warning: 1, ok: 0 }[vm.memory_status ?? "ok"];
  const troubles = Math.min(vm.troubles?.length ?? 0, 9);
  return (vm.state === "failed" ? 1000 : 0) + memory * 100 + troubles * 10 + (isOn(vm) ? 1 : 0);
}

/** Whether it should be seen at once. */
export function isShort(vm: VmView): boolean {
  return badness(vm) >= 10;
}

/** What is wrong with it, in a few words: who is short says by how much. */
export function lack(vm: VmView, human: (bytes: number) => string): string {
  if (vm.state === "failed") return vm.state_reason ?? "its machine has failed";
  const trouble = vm.troubles?.[0];
  if (trouble) return trouble.detail;
  if (vm.memory_status === "low") {
    const bytes = vm.demand_bytes - vm.assigned_bytes;
    return bytes > 0 ? `lacks ${human(bytes)} of its demand` : "lacks memory";
  }
  const bytes = vm.target_bytes - vm.assigned_bytes;
  return bytes > 0 ? `lacks ${human(bytes)} of its buffer` : "lacks a part of its buffer";
}
