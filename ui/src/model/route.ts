// Where we are: `#/`, `#/vm/web01`, `#/host`, `#/events`. The address is the only place that knows it.
import { signal } from "@preact/signals";

export type Route = { page: "list" | "host" | "events" } | { page: "vm"; name: string };

export function parse(hash: string): Route {
  const [, page, rest] = /^#\/([a-z]*)\/?(.*)$/.exec(hash) ?? [];
  if (page === "host" || page === "events") return { page };
  if (page === "vm" && rest) {
    try {
      return { page: "vm", name: decodeURIComponent(rest) };
    } catch {
      // no address of ours
    }
  }
  return { page: "list" };
}

export const vmHref = (name: string): string => `#/vm/${encodeURIComponent(name)}`;

export const route = signal<Route>({ page: "list" });

/** Follows the address from here on. */
export function followAddress(): void {
  const read = (): void => {
    route.value = parse(location.hash);
  };
  addEventListener("hashchange", read);
  read();
}

export function go(hash: string): void {
  location.hash = hash;
}
