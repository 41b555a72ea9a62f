// One pipeline: its results, inputs, latency, drops, model and orders.

import { Chart } from "../chart.js";
import { PipelineOrders } from "../orders.js";
import { Badge, Bar, Bars, Channels, Events, Facts, Legend, Panel, Picture, html } from "../parts.js";
import { ModelFacts, Update } from "./models.js";
import { alarms, clock, count, drops, entries, isNumber, isPicture, number, percent, plain, rate, sampleForm, span, text, total } from "../words.js";

export function PipelineView({ state, name, now, session }) {
  const pipeline = state.pipelines.get(name);
  if (!pipeline) return html`<h1>${text(name, 64)}</h1><p class="note">This device has no pipeline of this name, or has not sent its state yet.</p>`;
  const { health } = pipeline;
  const source = state.sourceOf(name);
  const events = state.events.filter(({ event }) => event.pipeline === name);
  const others = [...state.pipelines.keys()].sort();
  return html`
    ${others.length > 1 && html`<nav class="others" aria-label="Pipelines">${others.map((one) => html`<a key=${one} href=${`#/pipelines/${encodeURIComponent(one)}`} aria-current=${one === name ? "page" : null}>${one}</a>`)}</nav>`}
    <header class="title">
      <h1>${name}</h1>
      <${Badge} state=${pipeline.state} />
      ${health?.degraded && html`<${Badge} state="degraded" kind="warn" />`}
      ${alarms(health).length > 0 && html`<${Badge} state="drift" kind="warn" />`}
      ${pipeline.reason && html`<p class="reason">${text(pipeline.reason)}</p>`}
    </header>
    <${PipelineOrders} pipeline=${pipeline} session=${session} />
    <div class="columns">
      <div>
        <${Panel} title="Result" id="result" aside=${html`<span class="muted">${rate(pipeline.rate(now))}, ${count(Math.max(pipeline.seen, health?.results ?? 0))} in all</span>`}>
          <${Result} pipeline=${pipeline} source=${source} />
        <//>
        ${source && html`<${Panel} title="Input" id="input" aside=${html`<span class="muted">${rate(source.newest.rate)}</span>`}>
          <${Input} source=${source} />
        <//>`}
        <${Panel} title="Latest results" id="results"><${Results} pipeline=${pipeline} /><//>
      </div>
      <div>
        <${Panel} title="Latency by stage" id="latency"><${Latency} pipeline=${pipeline} /><//>
        <${Panel} title="Dropped" id="dropped"><${Dropped} health=${health} /><//>
        <${Panel} title="Model" id="model">
          <${ModelFacts} pipeline=${pipeline} />
          <${Update} model=${pipeline.model} />
        <//>
        ${health?.monitors && html`<${Panel} title="Monitors" id="monitors"><${Monitors} health=${health} /><//>`}
        <${Panel} title="Counts" id="counts"><${Counts} health=${health} /><//>
        <${Panel} title="Events" id="events"><${Events} events=${events.slice(-8)} withPipeline=${false} /><//>
      </div>
    </div>`;
}

function Result({ pipeline, source }) {
  const { words, result, curves } = pipeline;
  if (!words) return html`<p class="note">No result yet.</p>`;
  const camera = source && isPicture(source.newest.shape);
  return html`
    <p class=${`headline large ${words.alarm ? "alarm" : ""}`}>${words.text}</p>
    <p class="muted">at ${clock(result.time, result.clock)}, ready ${span(result.latency_us)} after the newest sample</p>
    ${camera && html`<${Picture} pipeline=${pipeline.name} seconds=${1} label=${`Newest picture of ${pipeline.name}: ${words.text}`} />`}
    ${words.boxes.length > 0 && html`<${Boxes} boxes=${words.boxes} />`}
    ${words.shares.length > 0 && html`<${Bars} rows=${words.shares} label="Scores of the last result" />`}
    ${curves.size > 0 && html`
      <h3>Last minute</h3>
      <${Chart} name="Scores" curves=${curves} limit=${pipeline.limit} low=${words.numbers.length ? null : 0} high=${words.numbers.length ? null : 1} />
      <${Legend} curves=${curves} />
      ${pipeline.limit !== null && html`<p class="muted"><span class="swatch limit" aria-hidden="true"></span> Threshold ${number(pipeline.limit)}</p>`}`}`;
}

const Boxes = ({ boxes }) => html`<div class="scroll" tabindex="0" role="group" aria-label="Found in the picture"><table>
  <thead><tr><th>Found</th><th class="n">Score</th><th class="n">Left</th><th class="n">Top</th><th class="n">Right</th><th class="n">Bottom</th>${boxes.some((one) => one.zones.length) && html`<th>Zones</th>`}</tr></thead>
  <tbody>${boxes.slice(0, 12).map((one, place) => html`<tr key=${one.id ?? `place ${place}`}>
    <td>${one.label}${one.id !== null && ` ${one.id}`}</td><td class="n">${percent(one.score)}</td>
    ${one.box.map((edge) => html`<td class="n">${percent(edge)}</td>`)}
    ${boxes.some((each) => each.zones.length) && html`<td>${one.zones.join(", ")}</td>`}
  </tr>`)}</tbody>
</table></div>`;

function Input({ source }) {
  const { newest, curves } = source;
  const shown = [...curves.keys()].length;
  return html`
    <p class="muted">${text(newest.source, 64)}: ${sampleForm(newest.shape)}. ${isPicture(newest.shape) ? "" : "A few samples of each second."}</p>
    ${shown > 0 && html`
      <${Channels} curves=${curves} />`}`;
}

function Results({ pipeline }) {
  const rows = pipeline.results.slice(-10).reverse();
  if (!rows.length) return html`<p class="note">No result yet.</p>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Table of results"><table>
    <thead><tr><th class="n more">Number</th><th>Time</th><th class="n">Latency</th><th>Result</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.sequence} class=${row.words.alarm ? "alarm" : ""}>
      <td class="n more">${count(row.sequence)}</td><td>${clock(row.time, row.clock)}</td><td class="n">${span(row.latency)}</td><td>${row.words.text}</td>
    </tr>`)}</tbody>
  </table></div>`;
}

function Latency({ pipeline }) {
  const { whole } = pipeline;
  const rows = [...pipeline.latency];
  if (!rows.length) return html`<p class="note">No window was measured yet.</p>`;
  const most = Math.max(...rows.map(([, one]) => one.p99).filter(Number.isFinite), 1);
  return html`<table class="latency">
    <thead><tr><th>Stage</th><th class="graph more"><span class="out-of-sight">Median and 95 %</span></th><th class="n">p50</th><th class="n">p95</th><th class="n more">p99</th></tr></thead>
    <tbody>${rows.map(([stage, one]) => html`<tr key=${stage}>
      <td>${plain(stage)}</td>
      <td class="graph more"><${Bar} share=${one.p50 / most} marks=${[one.p99 / most, one.p95 / most]} /></td>
      <td class="n">${span(one.p50)}</td><td class="n">${span(one.p95)}</td><td class="n more">${span(one.p99)}</td>
    </tr>`)}</tbody>
    ${whole.count > 0 && html`<tfoot><tr>
      <td>sample to result</td><td class="more">last ${count(whole.count)} results</td>
      <td class="n">${span(whole.p50)}</td><td class="n">${span(whole.p95)}</td><td class="n more">${span(whole.p99)}</td>
    </tr></tfoot>`}
  </table>`;
}

function Dropped({ health }) {
  const { samples, faults } = drops(health?.dropped);
  if (!samples.length && !faults.length) return html`<p class="note">No sample was dropped since Limpet started.</p>`;
  const sum = total(samples) || 1;
  return html`
    ${samples.length > 0 && html`<ul class="bars" aria-label="Dropped samples by cause">
      ${samples.slice(0, 12).map(([cause, value]) => html`<li key=${cause}>
        <span class="bar-name">${plain(cause)}</span><${Bar} share=${value / sum} ink="--warn" /><span class="bar-value">${count(value)}</span>
      </li>`)}
    </ul>`}
    ${faults.length > 0 && html`<p class="muted">Faults of the source: ${faults.slice(0, 8).map(([cause, value]) => `${plain(cause)} ${count(value)} ×`).join(", ")}</p>`}`;
}

function Monitors({ health }) {
  const { monitors } = health;
  const rows = entries(monitors.monitors);
  const cost = isNumber(monitors.cost) ? `, at ${percent(monitors.cost, 1)} of the pipeline's time` : "";
  return html`
    ${monitors.problem && html`<p class="reason">${text(monitors.problem)}</p>`}
    ${alarms(health).slice(0, 8).map((alarm) => html`<p key=${alarm.monitor} class="reason">${alarm.text}, since ${clock(alarm.since)}</p>`)}
    ${rows.length > 0 && html`<ul class="bars" aria-label="How near each monitor is to an alarm">
      ${rows.slice(0, 16).map(([name, one]) => html`<li key=${name}>
        <span class="bar-name">${plain(name)}</span><${Bar} share=${isNumber(one?.level) ? Math.min(one.level, 1) : 0} ink=${one?.alarm ? "--warn" : undefined} /><span class="bar-value">${one?.problem ? "off" : percent(one?.level)}</span>
      </li>`)}
    </ul>`}
    <p class="muted">An alarm begins at 100 %. ${count(monitors.windows)} windows were compared with the reference, ${count(monitors.skipped)} skipped${cost}.</p>`;
}

const right = (one) => `${percent(one.answers ? one.right / one.answers : 0, 1)} of ${count(one.answers)} (${percent(one.low)} to ${percent(one.high)})`;
const worst = (slices) => Object.entries(slices ?? {}).sort(([, a], [, b]) => a.right / a.answers - b.right / b.answers).slice(0, 8);

const Counts = ({ health }) => html`<${Facts} rows=${[
  ["Results", count(health?.results)],
  ["Errors", count(health?.errors)],
  ["Restarts", count(health?.restarts)],
  ["Left an accelerator", health?.failovers ? `${count(health.failovers)} ×` : null],
  ["Windows with clipped values", health?.clipped === null || health?.clipped === undefined ? null : percent(health.clipped, 1)],
  ["Right by feedback", health?.accuracy ? right(health.accuracy.all) : null],
  ...worst(health?.accuracy?.slices).map(([name, one]) => [`Right, ${plain(name)}`, right(one)]),
  ...Object.entries(health?.adaptations?.in_force ?? {}).map(([kind, number]) => [`Adapted ${plain(kind)}`, `adaptation ${count(number)}`]),
  ["Events left out", health?.events_left_out ? count(health.events_left_out) : null],
  ...Object.entries(health?.savings ?? {}).map(([saver, one]) => [`Spared by ${saver.replace("_", " ")}`, `${count(one.spared)} of ${count(one.windows)} windows`]),
  ["Snapshots", health?.snapshots ? `${count(health.snapshots.taken)} taken, ${count(health.snapshots.failed)} failed` : null],
]} />`;
