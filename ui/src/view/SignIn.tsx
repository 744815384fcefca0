// Asks for a token, once for a tab.
import { useState } from "preact/hooks";

import { token } from "../api/client";
import { follow } from "../api/link";
import { session } from "../model/session";

export function SignIn() {
  const [secret, type] = useState("");
  const now = session.value;
  const wasRefused = token.get() !== null;
  const sentence = now.state === "token" ? now.sentence : "";
  const submit = (event: Event): void => {
    event.preventDefault();
    token.set(secret.trim());
    session.value = { state: "asking" };
    void follow();
  };
  return (
    <form class="panel sign-in" onSubmit={submit}>
      <h1>Token</h1>
      <p>
        This daemon tells nothing without a token. <code>dynmem token new NAME --role read</code> (or{" "}
        <code>operate</code>) makes one on its host.
      </p>
      <label for="token">Token</label>
      <input
        id="token"
        type="password"
        autocomplete="off"
        spellcheck={false}
        placeholder="dynmem_…"
        value={secret}
        onInput={(event) => type(event.currentTarget.value)}
        aria-describedby={wasRefused ? "token-problem" : undefined}
        aria-invalid={wasRefused}
        ref={(input) => {
          if (input && !secret) input.focus();
        }}
      />
      {wasRefused && (
        <p id="token-problem" class="problem" role="alert">
          ✕ {sentence}
        </p>
      )}
      <button type="submit" class="main" disabled={secret.trim() === ""}>
        Sign in
      </button>
      <p class="muted">It is kept in this tab until the tab is closed, and is sent to this daemon only.</p>
    </form>
  );
}
