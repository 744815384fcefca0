// What could be set better.
import type { AdviceView } from "../api/types";

export function AdviceList({ advice }: { advice: readonly AdviceView[] }) {
  if (advice.length === 0) return null;
  return (
    <section class="panel" aria-label="Advice">
      <h2>Advice</h2>
      <ul class="advice">
        {advice.map(({ kind, severity, sentence, remedy }) => (
          <li key={kind}>
            <b class={severity === "warning" ? "tone-warn" : ""}>{severity === "warning" ? "! warning" : "hint"}</b> {sentence}{" "}
            <span class="muted">{remedy}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
