// One VM: how it is, why, over time, what happened, and what can be done about it.
import { useEffect, useMemo } from "preact/hooks";

import { vmPath } from "../api/client";
import type { VmView } from "../api/types";
import { duration, human, humanOr, percent, times } from "../model/format";
import { VM_MEMORY, VM_PRESSURE } from "../model/series";
import { isOn, status } from "../model/status";
import { names, told, vmSignal } from "../model/world";
import { Actions } from "./Actions";
import { AdviceList } from "./AdviceList";
import { Explanation } from "./Explanation";
import { Feed } from "./Feed";
import { type Figure, Figures } from "./Figures";
import { Ruler } from "./Ruler";
import { SettingsForm } from "./SettingsForm";
import { TimeCharts } from "./TimeCharts";

const GROUPS = [
  { title: "Memory", lines: VM_MEMORY, height: 260 },
  { title: "Pressure", lines: VM_PRESSURE, height: 120 },
] as const;

export function VmPage({ name }: { name: string }) {
  names.value; // one of the same name may come again
  const vm = vmSignal(name).value;
  useEffect(() => {
    document.title = `${name} – dynmem`;
    return () => {
      document.title = "dynmem";
    };
  }, [name]);
  const charts = useMemo(
    () => (
      <TimeCharts
        path={`${vmPath(name)}/history`}
        groups={GROUPS}
        live={() => {
          const now = vmSignal(name).peek();
          return now && isOn(now) ? now : null;
        }}
        concerns={(event) => event.vm === name}
      />
    ),
    [name],
  );
  if (!vm) {
    return (
      <section class="panel">
        <h1>{name}</h1>
        <p>{told.value > 0 ? `No VM is named ${name}` : "Waiting for the daemon…"}</p>
        <a href="#/">All VMs</a>
      </section>
    );
  }
  return (
    <div class="vm">
      <Top vm={vm} />
      <div class="vm-main">
        {charts}
        <section class="panel" aria-label="What happened">
          <h2>What happened</h2>
          <Feed most={12} vm={name} />
        </section>
        <section class="panel" aria-label="Figures">
          <h2>Figures</h2>
          <Figures of={figures(vm)} />
        </section>
      </div>
      <div class="vm-side">
        <Explanation name={name} />
        <Troubles vm={vm} />
        <AdviceList advice={vm.advice ?? []} />
        <SettingsForm name={name} />
      </div>
    </div>
  );
}

function Top({ vm }: { vm: VmView }) {
  const { mark, word, tone } = status(vm);
  const big: Figure[] = [
    ["assigned", isOn(vm) ? human(vm.assigned_bytes) : "–"],
    ["demand", isOn(vm) ? human(vm.demand_bytes) : "–"],
    ["target", isOn(vm) ? human(vm.target_bytes) : "–"],
    ["pressure", percent(vm.pressure_percent)],
    ["guest-visible", humanOr(vm.guest_visible_bytes)],
    ["balloon", isOn(vm) ? human(vm.ballooned_bytes ?? 0) : "–"],
  ];
  return (
    <section class="panel vm-top" aria-label={vm.name}>
      <div class="bar">
        <h1>{vm.name}</h1>
        <span class="chip" data-testid="state">
          {vm.state}
        </span>
        {word && (
          <span class={`chip tone-${tone}`} data-testid="status">
            {mark} {word}
          </span>
        )}
        <Actions vm={vm} />
      </div>
      {vm.state_reason && <p class="problem">{vm.state_reason}</p>}
      <dl class="big">
        {big.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd data-testid={`big-${name}`}>{value}</dd>
          </div>
        ))}
      </dl>
      <Ruler vm={vm} />
    </section>
  );
}

function Troubles({ vm }: { vm: VmView }) {
  const troubles = vm.troubles ?? [];
  const warnings = vm.warnings ?? [];
  if (troubles.length === 0 && warnings.length === 0) return null;
  return (
    <section class="panel" aria-label="What is wrong">
      <h2>What is wrong</h2>
      <ul class="advice">
        {troubles.map(({ kind, since_seconds, detail }) => (
          <li key={kind}>
            <b class="tone-odd">
              ! {kind} for {duration(since_seconds)}
            </b>{" "}
            {detail}
          </li>
        ))}
        {warnings.map((sentence) => (
          <li key={sentence}>! {sentence}</li>
        ))}
      </ul>
    </section>
  );
}

function figures(vm: VmView): Figure[] {
  const { counters, smart_paging: paging, autostart } = vm;
  const lent = (bytes = 0, count = 0): string => `${human(bytes)} in ${times(count)}`;
  return [
    ["Buffer held", percent(vm.buffer_percent_held)],
    ["Memory available", percent(vm.memory_available_percent)],
    ["Guest available", humanOr(vm.guest_available_bytes)],
    ["Guest stall", percent(vm.guest_stall_percent)],
    ["Hot-added", human(vm.plugged_bytes ?? 0)],
    ["Resident", humanOr(vm.resident_bytes)],
    ["Overhead", `${human(vm.overhead_bytes ?? 0)} ${vm.overhead_measured ? "measured" : "estimated"}`],
    ["Charged", human(vm.charged_bytes ?? 0)],
    ["Limit", humanOr(vm.memory_limit_bytes)],
    ["Added", lent(counters?.added_bytes, counters?.add_operations)],
    ["Removed", lent(counters?.removed_bytes, counters?.remove_operations)],
    ["Average pressure", percent(counters?.pressure_average_percent)],
    ["Uptime", vm.uptime_seconds === null || vm.uptime_seconds === undefined ? "–" : duration(vm.uptime_seconds)],
    ["CPU", `${percent(vm.cpu_percent)} of ${vm.vcpus} ${vm.vcpus === 1 ? "processor" : "processors"}`],
    ["Integration", vm.integration],
    ["Driver", vm.driver.state === "frozen" ? `frozen: ${vm.driver.reason}` : vm.driver.state],
    ["Smart paging", paging?.in_use ? `${human(paging.used_bytes ?? 0)} of ${humanOr(paging.file_bytes)}` : "not in use"],
    ["Autostart", autostart?.action ?? "–"],
  ];
}
