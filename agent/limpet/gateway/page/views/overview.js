// All pipelines at a glance, and the device in one line of figures.

import { Chart } from "../chart.js";
import { Badge, Bars, Events, Figure, Guarded, Panel, Picture, html } from "../parts.js";
import { alarms, count, drops, duration, isPicture, megabytes, number, percent, rate, span, text, total } from "../words.js";
import { outboxes } from "./device.js";

export function Overview({ state, now }) {
  const pipelines = [...state.pipelines.values()].sort((a, b) => a.name.localeCompare(b.name));
  return html`
    <h1 class="out-of-sight">Overview of ${text(state.device?.device, 64) || "the device"}</h1>
    <${Guarded}><${Summary} device=${state.device} /><//>
    <section aria-label="Pipelines" class="cards">
      ${pipelines.map((pipeline) => html`<${Guarded} key=${pipeline.name}><${Card} pipeline=${pipeline} source=${state.sourceOf(pipeline.name)} now=${now} /><//>`)}
    </section>
    ${!pipelines.length && html`<p class="note">No pipeline is known yet.</p>`}
    <${Panel} title="Latest events" id="latest-events" aside=${html`<a href="#/events">All events</a>`}>
      <${Events} events=${state.events.slice(-6)} />
    <//>`;
}

function Summary({ device }) {
  if (!device) return html`<p class="note">Waiting for the device.</p>`;
  const boxes = outboxes(device);
  const waiting = boxes.reduce((sum, one) => sum + one.waiting, 0);
  return html`<dl class="figures">
    <${Figure} name="Machine up" value=${duration(device.uptime_s)} />
    <${Figure} name="CPU" value=${percent(device.cpu_share)} note=${device.load_1m === null ? null : `load ${number(device.load_1m)}`} />
    <${Figure} name="Limpet’s memory" value=${megabytes(device.pss_mb)} note=${`${megabytes(device.memory_available_mb)} free`} />
    ${device.temperature_c !== null && html`<${Figure} name="Temperature" value=${`${number(device.temperature_c)} °C`} note=${device.throttled ? "throttled" : null} kind=${device.throttled ? "bad" : null} />`}
    <${Figure} name="Outbox" value=${boxes.length ? count(waiting) : "none"} note=${boxes.some((one) => one.away) ? "messages wait, no connection" : boxes.length ? "messages wait" : null} kind=${boxes.some((one) => one.away) ? "warn" : null} />
    <${Figure} name="Clock" value=${device.clock_synchronised === false ? "not set" : device.clock_synchronised ? "synchronised" : "unknown"} kind=${device.clock_synchronised === false ? "warn" : null} />
  </dl>`;
}

function Card({ pipeline, source, now }) {
  const { health, words } = pipeline;
  const dropped = drops(health?.dropped);
  const lost = total(dropped.samples);
  const camera = source && isPicture(source.newest.shape);
  const titleId = `card-${pipeline.name}`;
  return html`<article class=${`card ${words?.alarm ? "alarm" : ""}`} aria-labelledby=${titleId}>
    <header>
      <h2 id=${titleId}><a href=${`#/pipelines/${encodeURIComponent(pipeline.name)}`}>${pipeline.name}</a></h2>
      ${health?.degraded && html`<${Badge} state="degraded" kind="warn" />`}
      ${alarms(health).length > 0 && html`<${Badge} state="drift" kind="warn" />`}
      <${Badge} state=${pipeline.state} />
    </header>
    ${pipeline.reason && html`<p class="reason">${text(pipeline.reason)}</p>`}
    <p class=${`headline ${words?.alarm ? "alarm" : ""}`}>${words?.text || "no result yet"}</p>
    ${camera
      ? html`<${Picture} pipeline=${pipeline.name} seconds=${2} label=${`Newest picture of ${pipeline.name}: ${words?.text ?? ""}`} />`
      : words?.shares.length > 1
        ? html`<${Bars} rows=${words.shares.slice(0, 4)} label="Scores" />`
        : pipeline.curves.size > 0 && html`<${Chart} name=${pipeline.name} curves=${pipeline.curves} limit=${pipeline.limit} plain />`}
    <dl class="mini">
      <div><dt>Rate</dt><dd>${rate(pipeline.rate(now))}</dd></div>
      <div><dt>Latency p95</dt><dd>${span(pipeline.whole.p95)}</dd></div>
      <div><dt>Dropped</dt><dd class=${lost ? "warn" : ""}>${count(lost)}</dd></div>
      <div><dt>Runs on</dt><dd>${text(health?.delegate, 30) || "–"}</dd></div>
    </dl>
    <p class="model">${text(health?.model ?? pipeline.model?.model, 64)} <span>version ${count(health?.version ?? pipeline.model?.version)}</span>${source && html`<span>, ${rate(source.newest.rate)} samples of ${text(source.newest.source, 64)}</span>`}</p>
  </article>`;
}
