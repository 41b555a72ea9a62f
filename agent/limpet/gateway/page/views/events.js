// All events since the page was opened, and the last ones before.

import { useState } from "../vendor/hooks.js";
import { Events, html } from "../parts.js";
import { eventText } from "../words.js";

export function EventsView({ state }) {
  const [pipeline, setPipeline] = useState("");
  const [wanted, setWanted] = useState("");
  const names = [...new Set(state.events.map(({ event }) => String(event.pipeline ?? "")))].filter(Boolean).sort();
  const found = state.events.filter(({ event }) => (!pipeline || event.pipeline === pipeline)
    && (!wanted || `${event.event} ${eventText(event)}`.toLowerCase().includes(wanted.toLowerCase())));
  return html`<header class="title"><h1>Events</h1></header>
    <form class="filter" onSubmit=${(event) => event.preventDefault()}>
      <label>Pipeline <select value=${pipeline} onChange=${(event) => setPipeline(event.target.value)}>
        <option value="">all</option>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select></label>
      <label>Contains <input type="search" value=${wanted} onInput=${(event) => setWanted(event.target.value)} /></label>
      <span class="muted" role="status">${found.length} of ${state.events.length}</span>
    </form>
    <section class="panel" aria-label="Events, newest first"><${Events} events=${found} /></section>`;
}
