// The host: its picture, over time, in figures, and what could be set better.
import { human, humanOr, percent, times } from "../model/format";
import { HOST_MEMORY, HOST_STALL } from "../model/series";
import { session } from "../model/session";
import { host } from "../model/world";
import { AdviceList } from "./AdviceList";
import { type Figure, Figures } from "./Figures";
import { HostPicture } from "./HostPicture";
import { TimeCharts } from "./TimeCharts";

const GROUPS = [
  { title: "Memory", lines: HOST_MEMORY, height: 260 },
  { title: "Tasks that wait for memory", lines: HOST_STALL, height: 110 },
] as const;

export function HostPage() {
  const now = host.value;
  return (
    <>
      <HostPicture />
      <TimeCharts path="/v1/host/history" groups={GROUPS} live={() => host.peek()} concerns={(event) => !event.vm} />
      {now && <AdviceList advice={now.advice ?? []} />}
      {now && (
        <section class="panel" aria-label="Figures">
          <h2>Figures</h2>
          <Figures of={figures()} />
        </section>
      )}
    </>
  );
}

function figures(): Figure[] {
  const now = host.value;
  if (!now) return [];
  const limits = now.memory_limits;
  const paging = now.smart_paging;
  const version = session.value.state === "open" ? session.value.daemonVersion : undefined;
  return [
    ["Memory", human(now.memory_bytes ?? 0)],
    ["Reserve", `${human(now.reserve_bytes ?? 0)} by ${now.reserve_by ?? "formula"}`],
    ["Lendable", human(now.lendable_bytes ?? 0)],
    ["Charged", human(now.charged_bytes ?? 0)],
    ["Assigned", human(now.assigned_bytes ?? 0)],
    ["Overhead", human(now.overhead_bytes ?? 0)],
    ["Machines hold", humanOr(now.machines_hold_bytes)],
    ["Kept available", human(now.floor_bytes ?? 0)],
    ["Host available", human(now.host_available_bytes ?? 0)],
    ["Average pressure", percent(now.average_pressure_percent)],
    ["Stall", percent(now.stall_percent)],
    ["Added", `${human(now.counters?.added_bytes ?? 0)} in ${times(now.counters?.add_operations ?? 0)}`],
    ["Removed", `${human(now.counters?.removed_bytes ?? 0)} in ${times(now.counters?.remove_operations ?? 0)}`],
    ["Memory limits", limits?.state === "unavailable" ? `unavailable: ${limits.reason}` : (limits?.state ?? "off")],
    ["Smart Paging", `${paging?.possible ? "possible" : "not possible"}${paging?.remark ? `: ${paging.remark}` : ""}`],
    ["QEMU", `${now.qemu_version ?? ""} (${now.accelerator ?? ""})`],
    ["dynmemd", version ?? "–"],
  ];
}

