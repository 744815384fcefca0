// What happened, the newest first.
import type { EventView } from "../api/types";
import { moment } from "../model/format";
import { vmHref } from "../model/route";
import { events } from "../model/world";
import { glyph } from "../model/glyph";

export function Feed({ most, vm, filter }: { most: number; vm?: string; filter?: string }) {
  const part = filter?.toLowerCase() ?? "";
  const passes = (event: EventView): boolean =>
    (vm === undefined || event.vm === vm) && (!part || `${event.vm ?? "host"} ${event.kind} ${event.message}`.toLowerCase().includes(part));
  const shown = events.value.filter(passes).slice(-most).reverse();
  if (shown.length === 0) return <p class="muted">Nothing yet</p>;
  const now = Date.now();
  return (
    <ol class="feed" data-testid="feed">
      {shown.map((event) => (
        <li key={event.id}>
          <time dateTime={new Date(event.time_unix_ms).toISOString()}>{moment(event.time_unix_ms, now)}</time>
          <b title={event.kind} aria-label={event.kind}>
            {glyph(event.kind)}
          </b>
          {vm === undefined && (event.vm ? <a href={vmHref(event.vm)}>{event.vm}</a> : <span class="muted">host</span>)}
          <span>{event.message}</span>
        </li>
      ))}
    </ol>
  );
}
