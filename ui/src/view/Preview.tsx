// What would come of a change: who would have more, who less, and what could still be lent.
import type { DryRunView } from "../api/types";
import { human } from "../model/format";

const SHOWN_MAX = 8;

export function Preview({ view }: { view: DryRunView }) {
  const rows = view.vms.slice(0, SHOWN_MAX);
  return (
    <div class="preview" role="status" data-testid="preview">
      <h3>What would happen</h3>
      {rows.length === 0 ? (
        <p>No VM's memory would move.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th>VM</th>
              <th>now</th>
              <th>then</th>
              <th>status</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ name, now_bytes, then_bytes, memory_status }) => (
              <tr key={name}>
                <td>{name}</td>
                <td>{human(now_bytes)}</td>
                <td>
                  {then_bytes > now_bytes ? "▲" : "▼"} {human(then_bytes)}
                </td>
                <td>{memory_status ?? ""}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {view.vms.length > SHOWN_MAX && <p class="muted">and {view.vms.length - SHOWN_MAX} more VMs</p>}
      <p class="muted">
        Can be lent: {human(view.available_bytes)} now, {human(view.available_after_bytes)} then
        {view.waits && `; it waits until others have given ${human(view.reclaimed_bytes)} back`}.
      </p>
    </div>
  );
}
