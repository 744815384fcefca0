// A row for each VM. Only the rows that are seen are drawn, so that ten thousand cost what fifty do.
import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { type Order, type Sorting, rows, sameNames, sortBy } from "../model/order";
import { go, vmHref } from "../model/route";
import { allVms, told } from "../model/world";
import { isTyping } from "./App";
import { Row } from "./Row";
import { useWindow } from "./window";

/** These outlive the page, so that who comes back finds the list as it was. */
const kept = { filter: "", sorting: { order: "name", reversed: false } as Sorting, selected: "" };

const ORDERS: Readonly<Record<string, Order>> = {
  n: "name",
  a: "assigned",
  d: "demand",
  p: "pressure",
  s: "status",
};
const PAGE = 10;

export function VmList() {
  const filter = useSignal(kept.filter);
  const sorting = useSignal(kept.sorting);
  const selected = useSignal(kept.selected);
  Object.assign(kept, { filter: filter.value, sorting: sorting.value, selected: selected.value });
  const before = useRef<string[]>([]);
  const list = useComputed(() => {
    told.value;
    const next = rows(allVms(), filter.value, sorting.value);
    if (!sameNames(before.current, next)) before.current = next;
    return before.current;
  });
  const scale = useComputed(() => {
    told.value;
    return allVms().reduce((most, vm) => Math.max(most, vm.assigned_bytes, vm.demand_bytes, vm.target_bytes), 1);
  });
  const body = useRef<HTMLDivElement>(null);
  const grid = useRef<HTMLDivElement>(null);
  const search = useRef<HTMLInputElement>(null);
  const seen = useWindow(body, list.value.length);

  const select = (to: number): void => {
    const at = Math.max(0, Math.min(to, list.peek().length - 1));
    selected.value = list.peek()[at] ?? "";
    seen.reveal(at);
  };
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (isTyping(event.target)) return;
      const order = ORDERS[event.key];
      if (order) sorting.value = sortBy(sorting.peek(), order);
      if (event.key === "/") {
        event.preventDefault();
        search.current?.focus();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  const press = (event: KeyboardEvent): void => {
    if (event.target !== event.currentTarget) return; // a button of the head
    const at = list.peek().indexOf(selected.peek());
    const last = list.peek().length - 1;
    const to: Record<string, number> = {
      ArrowUp: Math.max(0, at - 1),
      k: Math.max(0, at - 1),
      ArrowDown: at + 1,
      j: at + 1,
      PageUp: at - PAGE,
      PageDown: at + PAGE,
      Home: 0,
      End: last,
    };
    const next = to[event.key];
    if (next !== undefined) {
      event.preventDefault();
      select(next);
    } else if (event.key === "Enter" && at >= 0) {
      go(vmHref(selected.peek()));
    }
  };
  const shown = list.value.slice(seen.first, seen.last);
  const at = list.value.indexOf(selected.value);
  return (
    <section class="panel list" aria-label="VMs">
      <Bar filter={filter} sorting={sorting} search={search} onDown={() => grid.current?.focus()} />
      <div
        ref={grid}
        role="grid"
        aria-label="VMs"
        aria-rowcount={list.value.length + 1}
        aria-activedescendant={at >= seen.first && at < seen.last ? `row-${at}` : undefined}
        class="grid"
        tabIndex={0}
        onKeyDown={press}
        onFocus={() => {
          if (list.peek().indexOf(selected.peek()) < 0) selected.value = list.peek()[0] ?? "";
        }}
        data-testid="rows"
      >
        <Header sorting={sorting.value} onSort={(order) => (sorting.value = sortBy(sorting.peek(), order))} />
        <div
          ref={body}
          role="rowgroup"
          class="rows"
          style={{ height: `${list.value.length * seen.height}px` }}
        >
          {shown.map((name, index) => {
            const row = seen.first + index;
            const isSelected = name === selected.value;
            return <Row key={name} name={name} at={row} top={row * seen.height} isSelected={isSelected} scale={scale.value} />;
          })}
        </div>
        {list.value.length === 0 && told.value > 0 && (
          <p class="muted empty">
            {filter.value ? "No VM passes the filter" : "No VM is defined: dynmem vm create makes one"}
          </p>
        )}
      </div>
    </section>
  );
}

interface BarProps {
  filter: { value: string };
  sorting: { value: Sorting; peek: () => Sorting };
  search: preact.RefObject<HTMLInputElement>;
  onDown: () => void;
}

function Bar({ filter, sorting, search, onDown }: BarProps) {
  const press = (event: KeyboardEvent): void => {
    if (event.key === "Escape") filter.value = "";
    if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      onDown();
    }
  };
  return (
    <div class="bar">
      <h2>VMs</h2>
      <input
        ref={search}
        type="search"
        maxLength={64}
        placeholder="Filter by name"
        aria-label="Filter VMs by name"
        aria-keyshortcuts="/"
        value={filter.value}
        onInput={(event) => (filter.value = event.currentTarget.value)}
        onKeyDown={press}
      />
      <label class="sort-select">
        sort by{" "}
        <select
          value={sorting.value.order}
          onChange={(event) => (sorting.value = { order: event.currentTarget.value as Order, reversed: false })}
        >
          {Object.values(ORDERS).map((order) => (
            <option key={order}>{order}</option>
          ))}
        </select>
      </label>
    </div>
  );
}

const COLUMNS: readonly [string, Order | null][] = [
  ["Name", "name"],
  ["State", null],
  ["Status", "status"],
  ["Assigned", "assigned"],
  ["Demand", "demand"],
  ["Pressure", "pressure"],
  ["Memory", null],
  ["Demand lately", null],
];

function Header({ sorting, onSort }: { sorting: Sorting; onSort: (order: Order) => void }) {
  const now = sorting.reversed !== (sorting.order === "name") ? "ascending" : "descending";
  return (
    <div role="row" class="row header" aria-rowindex={1}>
      {COLUMNS.map(([title, order]) => (
        <div
          key={title}
          role="columnheader"
          class={`cell c-${title.toLowerCase().replace(" ", "-")}`}
          aria-sort={order && order === sorting.order ? now : undefined}
        >
          {order ? (
            <button type="button" onClick={() => onSort(order)}>
              {title}
              {order === sorting.order && (sorting.reversed ? " ▴" : " ▾")}
            </button>
          ) : (
            title
          )}
        </div>
      ))}
    </div>
  );
}
