// All events that this page knows, with a filter.
import { useState } from "preact/hooks";

import { EVENTS_MAX } from "../model/world";
import { Feed } from "./Feed";

export function EventsPage() {
  const [filter, type] = useState("");
  return (
    <section class="panel" aria-label="Events">
      <div class="bar">
        <h1>Events</h1>
        <input
          type="search"
          placeholder="Filter: a VM, a kind, a word"
          aria-label="Filter events"
          value={filter}
          onInput={(event) => type(event.currentTarget.value)}
        />
      </div>
      <Feed most={EVENTS_MAX} filter={filter} />
      <p class="muted">
        The newest {EVENTS_MAX} at most. <code>dynmem events</code> has all.
      </p>
    </section>
  );
}
