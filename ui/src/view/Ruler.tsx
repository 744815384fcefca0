// A VM's memory between nothing and its maximum, with minimum and startup as marks.
import type { VmView } from "../api/types";
import { human } from "../model/format";
import { MemoryBar } from "./MemoryBar";

export function Ruler({ vm }: { vm: VmView }) {
  const { dynamic, minimum_bytes, startup_bytes, maximum_bytes } = vm.settings;
  // A maximum that was never thought about would leave a point of everything else.
  const used = Math.max(vm.assigned_bytes, vm.demand_bytes, vm.target_bytes, startup_bytes);
  const whole = dynamic ? Math.min(maximum_bytes, used * 4) : Math.max(startup_bytes, used);
  const at = (bytes: number) => ({ left: `${Math.min(100, (bytes / whole) * 100)}%` });
  const isCut = dynamic && whole < maximum_bytes;
  return (
    <div class="ruler">
      <MemoryBar assigned={vm.assigned_bytes} demand={vm.demand_bytes} target={vm.target_bytes} whole={whole} />
      <div class="marks" aria-hidden="true">
        {dynamic && minimum_bytes !== startup_bytes && <i style={at(minimum_bytes)} />}
        <i style={at(startup_bytes)} />
      </div>
      <p class="muted">
        {dynamic ? (
          <>
            <span>minimum {human(minimum_bytes)}</span>
            <span>startup {human(startup_bytes)}</span>
            <span>
              maximum {human(maximum_bytes)}
              {isCut && " (not to scale)"}
            </span>
          </>
        ) : (
          <span>static {human(startup_bytes)}</span>
        )}
      </p>
    </div>
  );
}
