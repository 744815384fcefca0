// What keys do; the same as in `dynmem top`, where there is the same thing to do.
import { Dialog } from "./Dialog";

const KEYS: readonly [string, string][] = [
  ["↑ ↓ k j, Page, Home, End", "select a VM in the list"],
  ["Enter", "its page"],
  ["Esc", "back to all VMs"],
  ["/", "only VMs with this in their name"],
  ["n a d p s", "sort by name, assigned, demand, pressure, status; again: the other way round"],
  ["← → on a chart", "another moment; with Shift: to and fro in time"],
  ["+ − 0 on a chart", "closer, farther, back to now"],
  ["?", "this"],
];

export function Keys({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl class="keys">
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>{key}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <button type="button" class="main" onClick={onClose}>
        Close
      </button>
    </Dialog>
  );
}
