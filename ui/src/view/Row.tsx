// One VM in the list.
import { memo } from "./memo";
import { human, percent } from "../model/format";
import { vmHref } from "../model/route";
import { isOn, status } from "../model/status";
import { trail, vmSignal } from "../model/world";
import { MemoryBar } from "./MemoryBar";

interface Props {
  name: string;
  at: number;
  /** In pixels. */
  top: number;
  isSelected: boolean;
  /** Bytes that fill the bar. */
  scale: number;
}

export const Row = memo(({ name, at, top, isSelected, scale }: Props) => {
  const vm = vmSignal(name).value;
  if (!vm) return null;
  const { mark, word, tone } = status(vm);
  const size = (bytes: number): string => (isOn(vm) ? human(bytes) : "–");
  return (
    <div
      role="row"
      id={`row-${at}`}
      class={`row${isSelected ? " is-selected" : ""}`}
      aria-rowindex={at + 2}
      aria-selected={isSelected}
      style={{ transform: `translateY(${top}px)` }}
      data-vm={name}
    >
      <div role="gridcell" class="cell c-name">
        <a href={vmHref(name)} tabIndex={-1}>
          {name}
        </a>
      </div>
      <div role="gridcell" class="cell c-state">
        {vm.state}
      </div>
      <div role="gridcell" class={`cell c-status tone-${tone}`}>
        {mark && <b>{mark} </b>}
        {word}
      </div>
      <div role="gridcell" class="cell c-assigned num" data-label="assigned">
        {size(vm.assigned_bytes)}
      </div>
      <div role="gridcell" class="cell c-demand num" data-label="demand">
        {size(vm.demand_bytes)}
      </div>
      <div role="gridcell" class="cell c-pressure num" data-label="pressure">
        {percent(vm.pressure_percent)}
      </div>
      <div role="gridcell" class="cell c-memory">
        <MemoryBar assigned={vm.assigned_bytes} demand={vm.demand_bytes} target={vm.target_bytes} whole={scale} />
      </div>
      <div role="gridcell" class="cell c-demand-lately" aria-hidden="true">
        <Curve values={trail(name)} />
      </div>
    </div>
  );
});

/** The last values, the newest at the right; the largest reaches the top. */
function Curve({ values }: { values: readonly number[] }) {
  const most = Math.max(1, ...values);
  const step = 120 / 119;
  const from = 120 - values.length;
  const points = values.map((value, at) => `${((from + at) * step).toFixed(1)},${(19 - (value / most) * 16).toFixed(1)}`);
  return (
    <svg viewBox="0 0 120 20" preserveAspectRatio="none" class="curve">
      <polyline points={points.join(" ")} />
    </svg>
  );
}
