// The settings form's state and what it asks of the daemon:
//
//   GET vm ──ETag──▶ base ──typed──▶ draft ──check──▶ faults, or a dry run ──▶ preview ──▶ PATCH If-Match
//                     └─ is told otherwise live, or 412 ──▶ GET vm: has somebody else changed it?
//
// What is told live may be a second old: only an answer to a GET is believed to be newer than `base`.
import { type Signal, batch, computed, signal } from "@preact/signals";

import { Refused, ask, sentenceOf, vmPath } from "../api/client";
import type { DryRunView, EventView, SettingsView, VmView } from "../api/types";
import { type Draft, type Field, check, differences, draftOf, fieldOf, isEmpty, rebase, shown } from "../model/settings";
import { events } from "../model/world";

/** After the last key, until the daemon is asked. */
const PAUSE_MS = 300;

interface Base {
  settings: SettingsView;
  etag: string | null;
  /** The newest event when it was read: one that comes later says what somebody else did. */
  eventId: number;
}

const newestEvent = (): number => events.peek().at(-1)?.id ?? 0;

export interface Meanwhile {
  changed: { field: Field; from: string; to: string }[];
  /** What the event log says of it, if it has it already. */
  event: EventView | undefined;
}

/** One VM's form, for as long as it is shown. */
export class SettingsModel {
  readonly base: Signal<Base | null> = signal(null);
  readonly draft: Signal<Draft | null> = signal(null);
  readonly preview: Signal<DryRunView | null> = signal(null);
  /** A sentence of the daemon, and the field that it is about. */
  readonly refusal: Signal<{ field: Field | null; sentence: string } | null> = signal(null);
  readonly isBusy = signal(false);
  readonly done: Signal<string | null> = signal(null);

  readonly checked = computed(() => {
    const [base, draft] = [this.base.value, this.draft.value];
    return base && draft ? check(base.settings, draft) : { patch: {}, faults: {} };
  });
  readonly isDirty = computed(() => !isEmpty(this.checked.value.patch) || Object.keys(this.checked.value.faults).length > 0);
  /** What the settings are by now, if they are others than those that the form was filled with. */
  private readonly theirs: Signal<SettingsView | null> = signal(null);
  readonly meanwhile = computed((): Meanwhile | null => {
    const [base, theirs] = [this.base.value, this.theirs.value];
    if (!base || !theirs) return null;
    const { settings, eventId } = base;
    const isIt = ({ id, vm, kind }: EventView): boolean =>
      vm === this.name && kind === "settings-changed" && id > eventId;
    return {
      changed: differences(settings, theirs).map((field) => ({ field, from: shown(settings, field), to: shown(theirs, field) })),
      event: events.value.findLast(isIt),
    };
  });

  private timer: ReturnType<typeof setTimeout> | null = null;
  private asking: AbortController | null = null;

  constructor(readonly name: string) {}

  /** Reads the settings with their tag; `keep` what a person has changed. */
  async read(keep: boolean): Promise<void> {
    const eventId = newestEvent();
    try {
      const { value, etag } = await ask<VmView>(vmPath(this.name));
      this.fill({ settings: value.settings, etag, eventId }, keep);
      this.tryLater();
    } catch (error) {
      this.refusal.value = { field: null, sentence: sentenceOf(error) };
    }
  }

  /** Something was told live: have the settings changed? Who has typed nothing follows, others are told. */
  async look(live: SettingsView): Promise<void> {
    const base = this.base.peek();
    if (!base && this.refusal.peek()) return this.read(false); // the daemon was away when it was asked first
    if (!base || this.isBusy.peek() || differences(base.settings, live).length === 0) return;
    const eventId = newestEvent();
    const answer = await ask<VmView>(vmPath(this.name)).catch(() => null); // the next that is told asks again
    const now = this.base.peek();
    if (!answer || this.isBusy.peek() || now !== base) return;
    const { settings } = answer.value;
    if (differences(base.settings, settings).length === 0) this.theirs.value = null;
    else if (this.isDirty.peek()) this.theirs.value = settings;
    else this.fill({ settings, etag: answer.etag, eventId }, false);
  }

  private fill(base: Base, keep: boolean): void {
    const [before, draft] = [this.base.peek(), this.draft.peek()];
    batch(() => {
      this.base.value = base;
      this.draft.value = keep && before && draft ? rebase(draft, before.settings, base.settings) : draftOf(base.settings);
      this.theirs.value = null;
      this.preview.value = null;
      this.refusal.value = null;
    });
  }

  type<F extends Field>(field: F, value: Draft[F]): void {
    const draft = this.draft.peek();
    if (!draft) return;
    batch(() => {
      this.draft.value = { ...draft, [field]: value };
      this.preview.value = null;
      this.refusal.value = null;
      this.done.value = null;
    });
    this.tryLater();
  }

  /** Sets it, if nobody else has changed it meanwhile. */
  async set(): Promise<void> {
    const { patch, faults } = this.checked.peek();
    const base = this.base.peek();
    if (!base || isEmpty(patch) || Object.keys(faults).length > 0) return;
    this.stop();
    this.isBusy.value = true;
    try {
      const path = `${vmPath(this.name)}/memory`;
      const { value, etag } = await ask<VmView>(path, { method: "PATCH", body: patch, ifMatch: base.etag });
      const words = differences(base.settings, value.settings).map((field) => `${field} ${shown(value.settings, field)}`);
      batch(() => {
        this.fill({ settings: value.settings, etag, eventId: newestEvent() }, false);
        this.done.value = `Set: ${words.join(", ")}`;
      });
    } catch (error) {
      this.refuse(error);
    }
    this.isBusy.value = false;
  }

  end(): void {
    this.stop();
  }

  private tryLater(): void {
    this.stop();
    this.timer = setTimeout(() => void this.try(), PAUSE_MS);
  }

  private stop(): void {
    if (this.timer) clearTimeout(this.timer);
    this.asking?.abort();
    this.timer = this.asking = null;
  }

  private async try(): Promise<void> {
    const { patch, faults } = this.checked.peek();
    const base = this.base.peek();
    if (!base || isEmpty(patch) || Object.keys(faults).length > 0) return;
    const asking = (this.asking = new AbortController());
    try {
      const path = `${vmPath(this.name)}/memory?dry_run=true`;
      const request = { method: "PATCH", body: patch, ifMatch: base.etag, signal: asking.signal };
      const { value } = await ask<DryRunView>(path, request);
      if (asking.signal.aborted) return;
      const { refusal } = value;
      this.preview.value = value;
      this.refusal.value = refusal ? { field: fieldOf(refusal), sentence: refusal } : null;
    } catch (error) {
      if (!asking.signal.aborted) this.refuse(error);
    }
  }

  private refuse(error: unknown): void {
    const sentence = sentenceOf(error);
    // Its settings are told again beside the form: here, what to do is enough.
    const isStale = error instanceof Refused && error.status === 412;
    const told = isStale ? "Somebody else has changed these settings meanwhile, and nothing was set" : sentence;
    this.refusal.value = { field: isStale ? null : fieldOf(sentence), sentence: told };
  }
}
