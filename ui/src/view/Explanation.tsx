// Why a VM has what it has: asked again when something has changed, at most every two seconds.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { ask, sentenceOf, vmPath } from "../api/client";
import type { ExplanationView } from "../api/types";
import { human } from "../model/format";
import { vmHref } from "../model/route";
import { told } from "../model/world";

const PAUSE_MS = 2000;

export function Explanation({ name }: { name: string }) {
  const why = useSignal<ExplanationView | null>(null);
  const problem = useSignal<string | null>(null);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | null = null;
    let again = false;
    const stop = new AbortController();
    const look = (): void => {
      timer = setTimeout(rested, PAUSE_MS);
      if (document.hidden) return;
      ask<ExplanationView>(`${vmPath(name)}/explanation`, { signal: stop.signal })
        .then(({ value }) => {
          why.value = value;
          problem.value = null;
        })
        .catch((error: unknown) => {
          if (!stop.signal.aborted) problem.value = sentenceOf(error);
        });
    };
    const rested = (): void => {
      timer = null;
      if (again) look();
      again = false;
    };
    const end = told.subscribe(() => {
      if (timer) again = true;
      else look();
    });
    return () => {
      end();
      stop.abort();
      if (timer) clearTimeout(timer);
    };
  }, [name]);
  const now = why.value;
  return (
    <section class="panel" aria-label="Why" data-testid="why">
      <h2>Why it has what it has</h2>
      {problem.value && <p class="problem">✕ {problem.value}</p>}
      {now && <p>{now.sentence}</p>}
      {now && (now.remedies ?? []).length > 0 && (
        <>
          <h3>What would change it</h3>
          <ul class="advice">
            {now.remedies?.map((remedy) => <li key={remedy}>{remedy}</li>)}
          </ul>
        </>
      )}
      {now && <Others now={now} />}
    </section>
  );
}

function Others({ now }: { now: ExplanationView }) {
  const sharers = now.sharers ?? [];
  const owed = now.owed ?? [];
  return (
    <>
      {owed.length > 0 && (
        <>
          <h3>On its way back: {human(now.owed_bytes)}</h3>
          <ul class="advice">
            {owed.map(({ name, bytes, stuck }) => (
              <li key={name}>
                <a href={vmHref(name)}>{name}</a> {human(bytes)} {stuck && <b class="tone-odd">! stuck</b>}
              </li>
            ))}
          </ul>
        </>
      )}
      {now.shortage && sharers.length > 0 && (
        <table class="sharers">
          <caption>
            Sharing {now.shortage.rank}: {human(now.shortage.room_bytes)} of {human(now.shortage.wanted_bytes)}
          </caption>
          <thead>
            <tr>
              <th>VM</th>
              <th>weight</th>
              <th>assigned</th>
              <th>due</th>
            </tr>
          </thead>
          <tbody>
            {sharers.map((sharer) => (
              <tr key={sharer.name}>
                <td>
                  <a href={vmHref(sharer.name)}>{sharer.name}</a>
                </td>
                <td>{sharer.weight}</td>
                <td>{human(sharer.assigned_bytes)}</td>
                <td>{human(sharer.due_bytes)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
