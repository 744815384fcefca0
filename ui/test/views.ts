// Views for tests.
import type { HostView, VmView } from "../src/api/types";

export const MIB = 2 ** 20;

export function vm(name: string, more: Partial<VmView> = {}): VmView {
  return {
    name,
    state: "running",
    assigned_bytes: 512 * MIB,
    demand_bytes: 256 * MIB,
    target_bytes: 320 * MIB,
    charged_bytes: 540 * MIB,
    memory_status: "ok",
    vcpus: 1,
    integration: "agent",
    driver: { state: "ok" },
    settings: {
      dynamic: true,
      startup_bytes: 512 * MIB,
      minimum_bytes: 256 * MIB,
      maximum_bytes: 2048 * MIB,
      buffer_percent: 20,
      weight: 5000,
      demand_model: "working-set",
    },
    ...more,
  } as VmView;
}

export function host(more: Partial<HostView> = {}): HostView {
  return {
    memory_bytes: 8192 * MIB,
    reserve_bytes: 1024 * MIB,
    lendable_bytes: 7168 * MIB,
    charged_bytes: 0,
    available_bytes: 7168 * MIB,
    ...more,
  } as HostView;
}
