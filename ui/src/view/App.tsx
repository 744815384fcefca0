// The frame of all pages: head, notices, the page, and keys that hold everywhere.
import { useEffect, useState } from "preact/hooks";

import { go, route } from "../model/route";
import { link, session } from "../model/session";
import { EventsPage } from "./EventsPage";
import { HostPage } from "./HostPage";
import { Keys } from "./Keys";
import { ListPage } from "./ListPage";
import { Notices } from "./Notices";
import { SignIn } from "./SignIn";
import { VmPage } from "./VmPage";

export function App() {
  const [keys, showKeys] = useState(false);
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (event.key === "?") showKeys(true);
      if (event.key === "Escape" && !document.querySelector("dialog[open]") && route.peek().page !== "list") go("#/");
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  const signedOut = session.value.state === "token";
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        To the content
      </a>
      <Head onKeys={() => showKeys(true)} />
      <Notices />
      <main id="main" tabIndex={-1} class={link.value.state === "lost" ? "is-old" : ""}>
        {signedOut ? <SignIn /> : <Page />}
      </main>
      {keys && <Keys onClose={() => showKeys(false)} />}
    </>
  );
}

function Head({ onKeys }: { onKeys: () => void }) {
  const { page } = route.value;
  const here = (name: string): "page" | undefined => (page === name ? "page" : undefined);
  const { state } = link.value;
  const waiting = session.value.state === "token" ? "no token" : "connecting";
  const word = { connecting: waiting, live: "live", lost: "connection lost" }[state];
  return (
    <header class="head">
      <a class="brand" href="#/" aria-label="dynmem, all VMs">
        dynmem
      </a>
      <nav aria-label="Pages">
        <a href="#/" aria-current={here("list")}>
          VMs
        </a>
        <a href="#/host" aria-current={here("host")}>
          Host
        </a>
        <a href="#/events" aria-current={here("events")}>
          Events
        </a>
      </nav>
      <span class={`link is-${state}`} role="status" data-testid="link">
        {word}
      </span>
      <button type="button" class="quiet" onClick={onKeys} aria-label="Keys">
        ?
      </button>
    </header>
  );
}

function Page() {
  const now = route.value;
  if (now.page === "vm") return <VmPage key={now.name} name={now.name} />;
  if (now.page === "host") return <HostPage />;
  if (now.page === "events") return <EventsPage />;
  return <ListPage />;
}

/** The address is the route: a link to a part of the page would change it. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

export function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}
