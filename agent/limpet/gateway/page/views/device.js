// The device: figures, accelerators, outboxes, trust and the audit journal.

import { Chart } from "../chart.js";
import { DeviceOrders } from "../orders.js";
import { Badge, Facts, Panel, html } from "../parts.js";
import { clock, count, duration, entries, isNumber, isObject, list, megabytes, number, percent, plain, text } from "../words.js";

/** Return what waits in each reporter's outbox. */
export function outboxes(device) {
  return entries(device?.reporters)
    .filter(([, one]) => isObject(one))
    .map(([name, one]) => ({
      name: text(name, 64), waiting: known(one.outbox_depth) + known(one.waiting), away: one.connected === false, figures: one,
    }));
}

const known = (value) => (isNumber(value) ? value : 0);

export function DeviceView({ state, session }) {
  const { device } = state;
  if (!device) return html`<h1>Device</h1><p class="note">Waiting for the device.</p>`;
  const curves = new Map([...state.deviceCurves].filter(([name]) => name === "CPU"));
  const memory = new Map([...state.deviceCurves].filter(([name]) => name === "memory"));
  return html`
    <header class="title"><h1>${text(device.device, 64)}</h1><p class="muted">Limpet ${text(device.version, 40)}, machine up ${duration(device.uptime_s)}</p></header>
    <${DeviceOrders} session=${session} />
    <div class="columns">
      <div>
        <${Panel} title="Load" id="load">
          <${Chart} name="Share of all cores" curves=${curves} low=${0} high=${1} />
          <p class="muted">Now ${percent(device.cpu_share)}</p>
        <//>
        <${Panel} title="Limpet’s memory in MB" id="memory">
          <${Chart} name="Memory of all its processes in MB" curves=${memory} low=${0} />
          <p class="muted">Now ${megabytes(device.pss_mb)}</p>
        <//>
        <${Panel} title="Outbox and reporters" id="outbox"><${Reporters} device=${device} /><//>
      </div>
      <div>
        <${Panel} title="Machine" id="machine"><${Facts} rows=${[
          ["CPU", percent(device.cpu_share)],
          ["Load over a minute", number(device.load_1m)],
          ["Memory of Limpet", megabytes(device.pss_mb)],
          ["Memory available", megabytes(device.memory_available_mb)],
          ["Temperature", device.temperature_c === null ? "not measured here" : `${number(device.temperature_c)} °C`],
          ["Throttled", device.throttled === null ? "not measured here" : device.throttled ? "yes" : "no"],
          ["Disk free", megabytes(device.disk_free_mb)],
          ["Clock synchronised", device.clock_synchronised === null ? "unknown" : device.clock_synchronised ? "yes" : "no"],
          ["Measured", clock(device.time)],
        ]} /><//>
        <${Panel} title="Accelerators" id="accelerators"><${Accelerators} found=${list(device.accelerators)} /><//>
        <${Panel} title="Trust" id="trust"><${Facts} rows=${[
          ["Models", device.trust?.models === "signed" ? "only signed ones run" : "unsigned ones run, too"],
          ["Root", device.trust?.root ? `version ${count(device.trust.root)}` : null],
          ["Root expires", device.trust?.expires ? clock(device.trust.expires) : null],
          ["Problem", text(device.trust?.problem)],
          ["Audit journal", device.audit ? `${count(device.audit.seq)} lines${device.audit.lost ? `, ${count(device.audit.lost)} lost` : ""}` : "none"],
        ]} /><//>
        ${isObject(device.api) && html`<${Panel} title="Local API" id="api"><${Facts} rows=${figures(device.api)} /><//>`}
      </div>
    </div>`;
}

function Reporters({ device }) {
  const found = outboxes(device);
  if (!found.length) return html`<p class="note">No reporter is configured.</p>`;
  return found.map((one) => html`<div key=${one.name}>
    <h3>${one.name} ${isObject(one.figures) && "connected" in one.figures && html`<${Badge} state=${one.figures.connected ? "connected" : "not connected"} kind=${one.figures.connected ? "good" : "warn"} />`}</h3>
    <${Facts} rows=${figures(one.figures)} />
  </div>`);
}

/** Return what a part of the device says about itself, one line a figure. */
function figures(found, before = "") {
  return entries(found).slice(0, 40).flatMap(([key, value]) => {
    const name = before ? `${before}, ${plain(key)}` : plain(key);
    if (isObject(value)) return before ? [] : figures(value, name);
    if (Array.isArray(value)) return [[name, value.slice(0, 8).map((one) => text(one, 60)).join(", ")]];
    if (typeof value === "boolean") return [[name, value ? "yes" : "no"]];
    if (isNumber(value)) return [[name, key.endsWith("_s") ? duration(value) : Number.isInteger(value) ? count(value) : number(value)]];
    return [[name, text(value)]];
  });
}

const Accelerators = ({ found }) => found.length
  ? html`<ul class="plain">${found.slice(0, 32).map((one, place) => html`<li key=${place}>
      <b>${text(one.name, 80)}</b> <${Badge} state=${one.usable ? "usable" : "not usable"} kind=${one.usable ? "good" : "warn"} />
      <div class="muted">${text(one.delegate, 40)} at ${text(one.where, 80)}${list(one.why_not).length ? `: ${list(one.why_not).map((why) => text(why)).join("; ")}` : ""}</div>
    </li>`)}</ul>`
  : html`<p class="note">None was found. Models run on the CPU.</p>`;
