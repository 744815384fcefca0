// What everybody on every page has to know: that nothing new comes, or that the daemon is another one.
import { useEffect, useState } from "preact/hooks";

import { token } from "../api/client";
import { tryNow } from "../api/link";
import { PAGE_VERSION, link, otherVersion, readOnly } from "../model/session";
import { host } from "../model/world";

export function Notices() {
  const version = otherVersion.value;
  const reason = readOnly.value;
  const protection = host.value?.protection;
  const damaged = host.value?.damaged_definitions ?? [];
  return (
    <div class="notices">
      <Lost />
      {version && (
        <p class="notice is-warn" role="alert">
          ! The daemon is {version}, this page is of {PAGE_VERSION}: some of it may be missing or wrong.{" "}
          <button type="button" onClick={() => location.reload()}>
            Load the page again
          </button>
        </p>
      )}
      {protection && <p class="notice is-warn">! {protection}</p>}
      {damaged.map(({ path, error }) => (
        <p class="notice is-warn" key={path}>
          ! {error}
        </p>
      ))}
      {reason && (
        <p class="notice" data-testid="read-only">
          Reading only. {reason}{" "}
          <button type="button" onClick={useAnother}>
            Use another token
          </button>
        </p>
      )}
    </div>
  );
}

function useAnother(): void {
  token.forget();
  location.reload();
}

function Lost() {
  const [now, tick] = useState(Date.now());
  const state = link.value;
  const isLost = state.state === "lost";
  useEffect(() => {
    if (!isLost) return;
    const timer = setInterval(() => tick(Date.now()), 500);
    return () => clearInterval(timer);
  }, [isLost]);
  if (state.state !== "lost") return null;
  const seconds = Math.max(0, Math.ceil((state.retryAt - Math.max(now, Date.now())) / 1000));
  return (
    <div class="notice is-bad">
      <span role="alert">!! Connection lost: {state.sentence}. What you see is old.</span>{" "}
      <span>{seconds > 0 ? `Trying again in ${seconds} s.` : "Trying again…"}</span>{" "}
      <button type="button" onClick={tryNow}>
        Try now
      </button>
    </div>
  );
}
