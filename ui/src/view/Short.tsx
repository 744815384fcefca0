// Who is short of memory or in trouble: the worst first.
import { human } from "../model/format";
import { vmHref } from "../model/route";
import { badness, isShort, lack, status } from "../model/status";
import { allVms, told } from "../model/world";

/** More are counted. */
const SHOWN_MAX = 6;

export function Short() {
  told.value;
  const short = allVms().filter(isShort);
  short.sort((a, b) => badness(b) - badness(a));
  if (short.length === 0) return null;
  return (
    <section class="panel short" aria-label="Who is short of memory">
      <h2>
        {short.length === 1 ? "1 VM needs attention" : `${short.length} VMs need attention`}
      </h2>
      <ul>
        {short.slice(0, SHOWN_MAX).map((vm) => {
          const { mark, word, tone } = status(vm);
          return (
            <li key={vm.name}>
              <a href={vmHref(vm.name)}>{vm.name}</a>{" "}
              <b class={`tone-${tone}`}>
                {mark} {word}
              </b>{" "}
              <span class="muted">{lack(vm, human)}</span>
            </li>
          );
        })}
      </ul>
      {short.length > SHOWN_MAX && <p class="muted">and {short.length - SHOWN_MAX} more: sort the list by status</p>}
    </section>
  );
}
