// Start, stop and the like: asks first where something would be lost, and says what came of it.
import { useSignal } from "@preact/signals";

import { ask, sentenceOf, vmPath } from "../api/client";
import type { VmView } from "../api/types";
import { type Deed, deeds } from "../model/deeds";
import { readOnly } from "../model/session";
import { Dialog } from "./Dialog";

/** A shutdown has a minute, saving may take some; what is under way is seen in the VM's state. */
const PATIENCE_MS = 600_000;

export function Actions({ vm }: { vm: VmView }) {
  const asked = useSignal<Deed | null>(null);
  const doing = useSignal<string | null>(null);
  const problem = useSignal<string | null>(null);
  const why = readOnly.value;
  const act = async (deed: Deed): Promise<void> => {
    asked.value = null;
    problem.value = null;
    doing.value = deed.doing;
    try {
      const { method, body } = deed;
      await ask(`${vmPath(vm.name)}${deed.path}`, { method, body, patienceMs: PATIENCE_MS });
    } catch (error) {
      problem.value = `${deed.word}: ${sentenceOf(error)}`;
    }
    if (doing.peek() === deed.doing) doing.value = null;
  };
  const question = asked.value;
  return (
    <div class="actions">
      {doing.value && (
        <span class="muted" role="status">
          {doing.value}…
        </span>
      )}
      {deeds(vm.state).map((deed) => (
        <button
          key={deed.word}
          type="button"
          disabled={why !== null || doing.value === deed.doing}
          title={why ?? deed.question}
          onClick={() => (deed.question ? (asked.value = deed) : void act(deed))}
        >
          {deed.word}
        </button>
      ))}
      {problem.value && (
        <p class="problem" role="alert" data-testid="action-problem">
          ✕ {problem.value}{" "}
          <button type="button" class="quiet" aria-label="Dismiss" onClick={() => (problem.value = null)}>
            ×
          </button>
        </p>
      )}
      {question && (
        <Dialog title={`${question.word}: ${vm.name}`} onClose={() => (asked.value = null)}>
          <p>{question.question}</p>
          <p class="answers">
            <button type="button" class="main" onClick={() => void act(question)}>
              {question.word}
            </button>
            <button type="button" onClick={() => (asked.value = null)}>
              No
            </button>
          </p>
        </Dialog>
      )}
    </div>
  );
}
