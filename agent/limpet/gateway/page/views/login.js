// The token of a person, exchanged for a session of this browser.

import { useState } from "../vendor/hooks.js";
import { html } from "../parts.js";

export function Login({ login, reason }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      await login(token.trim());
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  };
  return html`<section class="panel login" aria-labelledby="login">
    <h1 id="login">Log in</h1>
    ${reason && html`<p class="muted">${reason}</p>`}
    <form onSubmit=${send}>
      <input type="text" autocomplete="username" value="limpet" hidden readonly />
      <label class="field">Token
        <input type="password" autocomplete="current-password" value=${token} onInput=${(event) => setToken(event.target.value)} required />
      </label>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      <button type="submit" class="main" disabled=${busy || !token.trim()}>Log in</button>
    </form>
    <p class="muted">Make one on the device: <code>limpet token NAME</code> says how.</p>
  </section>`;
}
