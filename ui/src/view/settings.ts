// The settings form's state and what it asks of the daemon:
//
//   GET vm ──ETag──▶ base ──typed──▶ draft ──check──▶ faults, or a dry run ──▶ preview ──▶ PATCH If-Match
//                     └─ differs from what is told live, or 412: somebody else changed it
import { type Signal, batch, computed, signal } from "@preact/signals";

import { Refused, ask, sentenceOf, vmPath } from "../api/client";
import type { DryRunView, SettingsView, VmView } from "../api/types";
import { type Draft, type Field, check, differences, draftOf, fieldOf, isEmpty, rebase, shown } from "../model/settings";
import { events, vmSignal } from "../model/world";

/** After the last key, until the daemon is asked. */
const PAUSE_MS = 300;

interface Base {
  settings: SettingsView;
  etag: string | null;
  /** The newest event when it was read: what came later may say who changed it. */
  eventId: number;
}

export interface Meanwhile {
  changed: { field: Field; from: string; to: string }[];
  /** What the event log says of it. */
  sentences: { id: number; time_unix_ms: number; message: string }[];
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
  /** What somebody else has changed since the form was filled. */
  readonly meanwhile = computed((): Meanwhile | null => {
    const base = this.base.value;
    const now = vmSignal(this.name).value?.settings;
    if (!base || !now || this.isBusy.value) return null;
    const fields = differences(base.settings, now);
    if (fields.length === 0) return null;
    const of = (event: { id: number; vm?: string | null; kind: string }): boolean =>
      event.vm === this.name && event.kind === "settings-changed" && event.id > base.eventId;
    return {
      changed: fields.map((field) => ({ field, from: shown(base.settings, field), to: shown(now, field) })),
      sentences: events.value.filter(of),
    };
  });

  private timer: ReturnType<typeof setTimeout> | null = null;
  private asking: AbortController | null = null;

  constructor(readonly name: string) {}

  /** Reads the settings with their tag; `keep` what a person has changed. */
  async read(keep: boolean): Promise<void> {
    const eventId = events.peek().at(-1)?.id ?? 0;
    try {
      const { value, etag } = await ask<VmView>(vmPath(this.name));
      const [before, draft] = [this.base.peek(), this.draft.peek()];
      batch(() => {
        this.base.value = { settings: value.settings, etag, eventId };
        this.draft.value = keep && before && draft ? rebase(draft, before.settings, value.settings) : draftOf(value.settings);
        this.refusal.value = null;
      });
      this.tryLater();
    } catch (error) {
      this.refusal.value = { field: null, sentence: sentenceOf(error) };
    }
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
      batch(() => {
        const words = differences(base.settings, value.settings).map((field) => `${field} ${shown(value.settings, field)}`);
        this.base.value = { settings: value.settings, etag, eventId: Number.MAX_SAFE_INTEGER };
        this.draft.value = draftOf(value.settings);
        this.preview.value = null;
        this.refusal.value = null;
        this.done.value = `Set: ${words.join(", ")}`;
        vmSignal(this.name).value = value; // the stream will say the same
      });
    } catch (error) {
      this.refuse(error);
    }
    this.isBusy.value = false;
    if (this.base.peek()?.eventId === Number.MAX_SAFE_INTEGER) void this.settle();
  }

  end(): void {
    this.stop();
  }

  /** Our own change is in the log by now: only what comes later is somebody else's. */
  private async settle(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const base = this.base.peek();
    if (base) this.base.value = { ...base, eventId: events.peek().at(-1)?.id ?? 0 };
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
