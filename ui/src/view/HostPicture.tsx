// The host's memory as one bar, and in figures.
import { human, percent } from "../model/format";
import { type Segment, picture } from "../model/picture";
import { vmHref } from "../model/route";
import { status } from "../model/status";
import { allVms, host, told } from "../model/world";

export function HostPicture() {
  told.value; // drawn again whenever something was told
  const now = host.value;
  if (!now) return <section class="panel host" aria-busy="true" />;
  const segments = picture(now, allVms());
  const total = now.memory_bytes ?? 0;
  return (
    <section class="panel host" aria-label="The host's memory">
      <h1>
        {human(now.available_bytes ?? 0)} free <small>of the host's {human(total)}</small>
      </h1>
      <p class="figures">
        <span>
          <b>{human(now.charged_bytes ?? 0)}</b> to {now.vms_running} of {now.vms_total} VMs
        </span>
        <span>
          pressure <b>{percent(now.system_pressure_percent)}</b>
        </span>
        <span>
          <b>{human(now.available_for_balancing_bytes ?? 0)}</b> for balancing
        </span>
        <span>
          <b>{human(now.reserve_bytes ?? 0)}</b> kept for itself
        </span>
        {now.under_pressure && <span class="tone-bad">!! under pressure</span>}
      </p>
      <div class="stack" role="list" aria-label="Who holds it" data-testid="stack">
        {segments.map((segment) => (
          <Part key={segment.kind === "vm" ? `vm ${segment.name}` : segment.kind} segment={segment} />
        ))}
      </div>
      <Legend segments={segments} />
    </section>
  );
}

function Part({ segment }: { segment: Segment }) {
  const style = { flexGrow: segment.share };
  const bytes = human(segment.bytes);
  if (segment.kind === "vm") {
    const { mark, word, tone } = status(segment.vm);
    const title = `${segment.name}: ${bytes}${word ? `, ${word}` : ""}`;
    return (
      <a
        role="listitem"
        class={`part is-vm tone-${tone}`}
        style={style}
        href={vmHref(segment.name)}
        title={title}
        aria-label={title}
        tabIndex={-1}
      >
        <i style={{ width: `${segment.needed * 100}%` }} />
        {segment.share > 0.045 && (
          <span>
            {mark && `${mark} `}
            {segment.name} {segment.share > 0.12 && <small>{bytes}</small>}
          </span>
        )}
      </a>
    );
  }
  const label = words(segment);
  const tone = segment.kind === "rest" ? ` tone-${status(segment.worst).tone}` : "";
  return (
    <div role="listitem" class={`part is-${segment.kind}${tone}`} style={style} title={`${label}: ${bytes}`}>
      {segment.kind === "rest" && <i style={{ width: `${segment.needed * 100}%` }} />}
      {segment.share > 0.07 && <span>{label}</span>}
      <span class="sr">{`${label}: ${bytes}`}</span>
    </div>
  );
}

function words(segment: Exclude<Segment, { kind: "vm" }>): string {
  if (segment.kind === "reserve") return "kept for the host";
  if (segment.kind === "others") return "used by others";
  if (segment.kind !== "rest") return "free";
  const { mark } = status(segment.worst);
  return `${mark && `${mark} `}${segment.count} ${segment.isAll ? "" : "more "}VMs`;
}

function Legend({ segments }: { segments: readonly Segment[] }) {
  const has = (kind: Segment["kind"]): boolean => segments.some((segment) => segment.kind === kind);
  return (
    <ul class="legend" aria-hidden="true">
      <li>
        <i class="key is-needed" /> a VM needs it
      </li>
      <li>
        <i class="key is-beyond" /> it has it beyond that
      </li>
      {has("reserve") && (
        <li>
          <i class="key is-reserve" /> kept for the host
        </li>
      )}
      {has("others") && (
        <li>
          <i class="key is-others" /> used by others
        </li>
      )}
      <li>
        <i class="key is-free" /> free
      </li>
    </ul>
  );
}
