// Memory settings: checked as they are typed, tried before they are set.
import { useEffect, useMemo } from "preact/hooks";

import { moment } from "../model/format";
import { readOnly } from "../model/session";
import { type Draft, type Field, TITLES, isEmpty } from "../model/settings";
import { vmSignal } from "../model/world";
import { Preview } from "./Preview";
import { type Meanwhile, SettingsModel } from "./settings";

const HINTS: Partial<Record<Field, string>> = {
  startup: "what it boots with",
  minimum: "guaranteed once it is up",
  maximum: "never exceeded",
  buffer: "% of demand on top, 5–2000",
  weight: "claim in a shortage, 1–10000",
  smart_paging_folder: "empty: the daemon's own",
};

export function SettingsForm({ name }: { name: string }) {
  const model = useMemo(() => new SettingsModel(name), [name]);
  const live = vmSignal(name).value?.settings;
  const meanwhile = model.meanwhile.value;
  useEffect(() => {
    void model.read(false);
    return () => model.end();
  }, [model]);
  useEffect(() => {
    if (live) void model.look(live);
  }, [model, live]);
  const draft = model.draft.value;
  const why = readOnly.value;
  const { faults, patch } = model.checked.value;
  const refusal = model.refusal.value;
  const isFaulty = Object.keys(faults).length > 0;
  const submit = (event: Event): void => {
    event.preventDefault();
    void model.set();
  };
  const field = (which: Exclude<Field, "dynamic" | "demand_model">) => (
    <TextField
      which={which}
      draft={draft}
      fault={faults[which] ?? (refusal?.field === which ? refusal.sentence : undefined)}
      isChanged={which in patch}
      type={(value) => model.type(which, value)}
    />
  );
  return (
    <form class="panel settings" aria-label="Memory settings" onSubmit={submit} noValidate>
      <h2>Memory settings</h2>
      {why && <p class="muted">They can't be changed from here: {why}</p>}
      <fieldset disabled={why !== null || !draft}>
        <label class="check">
          <input
            type="checkbox"
            checked={draft?.dynamic ?? false}
            onChange={(event) => model.type("dynamic", event.currentTarget.checked)}
          />{" "}
          Dynamic memory
        </label>
        {refusal?.field === "dynamic" && <p class="problem">✕ {refusal.sentence}</p>}
        {field("startup")}
        {draft?.dynamic && field("minimum")}
        {draft?.dynamic && field("maximum")}
        {field("buffer")}
        {field("weight")}
        <div class="field">
          <label for="f-demand_model">Demand model</label>
          <select
            id="f-demand_model"
            value={draft?.demand_model ?? ""}
            onChange={(event) => model.type("demand_model", event.currentTarget.value)}
          >
            <option>working-set</option>
            <option>committed</option>
          </select>
        </div>
        {field("smart_paging_folder")}
        {meanwhile && <Stale now={meanwhile} model={model} />}
        {refusal && refusal.field === null && (
          <p class="problem" role="alert" data-testid="refusal">
            ✕ {refusal.sentence}
          </p>
        )}
        {model.preview.value && !model.preview.value.refusal && <Preview view={model.preview.value} />}
        <p class="answers">
          <button type="submit" class="main" disabled={isEmpty(patch) || isFaulty || model.isBusy.value}>
            Set
          </button>
          <button type="button" disabled={!model.isDirty.value} onClick={() => void model.read(false)}>
            Undo
          </button>
          <span role="status" class="muted" data-testid="done">
            {model.done.value}
          </span>
        </p>
      </fieldset>
    </form>
  );
}

interface FieldProps {
  which: Exclude<Field, "dynamic" | "demand_model">;
  draft: Draft | null;
  fault: string | undefined;
  isChanged: boolean;
  type: (value: string) => void;
}

function TextField({ which, draft, fault, isChanged, type }: FieldProps) {
  const id = `f-${which}`;
  return (
    <div class={`field${isChanged ? " is-changed" : ""}`}>
      <label for={id}>
        {TITLES[which]}
        {isChanged && <span class="sr"> (changed)</span>}
      </label>
      <input
        id={id}
        value={draft?.[which] ?? ""}
        autocomplete="off"
        spellcheck={false}
        maxLength={which === "smart_paging_folder" ? 4000 : 40}
        aria-invalid={fault !== undefined}
        aria-describedby={`${id}-words`}
        onInput={(event) => type(event.currentTarget.value)}
      />
      <p id={`${id}-words`} class={fault ? "problem" : "hint"} role={fault ? "alert" : undefined}>
        {fault ? `✕ ${fault}` : HINTS[which]}
      </p>
    </div>
  );
}

/** Somebody else was here: what they changed, and what to do about it. */
function Stale({ now, model }: { now: Meanwhile; model: SettingsModel }) {
  return (
    <div class="notice is-warn" role="alert" data-testid="stale">
      <p>! Changed by somebody else meanwhile:</p>
      <ul>
        {now.changed.map(({ field, from, to }) => (
          <li key={field}>
            {TITLES[field]}: {from} → <b>{to}</b>
          </li>
        ))}
      </ul>
      {now.event && (
        <p class="muted">
          {moment(now.event.time_unix_ms, Date.now())} {now.event.message}
        </p>
      )}
      <p class="answers">
        <button type="button" onClick={() => void model.read(true)}>
          Keep my changes on top
        </button>
        <button type="button" onClick={() => void model.read(false)}>
          Take theirs
        </button>
      </p>
    </div>
  );
}
