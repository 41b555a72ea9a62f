// Models: which version runs where, which ones clients can use, the proof of its delegate, and how far an update is.

import { useEffect, useState } from "../vendor/hooks.js";
import { post } from "../feed.js";
import { Badge, Bar, Facts, Panel, html } from "../parts.js";
import { clock, count, entries, isNumber, isObject, list, number, percent, plain, span, text } from "../words.js";

const LOOK_EVERY = 5000;
const STAGES = ["downloading", "verifying", "staged", "admission", "shadow", "trial", "good"];

export function Models({ state }) {
  const pipelines = [...state.pipelines.values()].sort((a, b) => a.name.localeCompare(b.name));
  return html`<h1>Models</h1>
    ${!pipelines.length && html`<p class="note">No pipeline is known yet.</p>`}
    <div class="cards wide-cards">${pipelines.map((pipeline) => html`<${Panel} key=${pipeline.name} title=${pipeline.name} id=${`models-${pipeline.name}`}
      aside=${html`<a href=${`#/pipelines/${encodeURIComponent(pipeline.name)}`} aria-label=${`Pipeline ${pipeline.name}`}>Pipeline</a>`}>
      <${ModelFacts} pipeline=${pipeline} />
      <${Update} model=${pipeline.model} />
    <//>`)}</div>
    <${Panel} title="For clients of the local API" id="usable"><${Usable} /><//>`;
}

/** The models that the Open Inference Protocol serves. */
function Usable() {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const look = () => post("v2/repository/index", {}).then((models) => {
      setFound(list(models).filter(isObject));
      setProblem("");
    }, (error) => setProblem(error.message));
    look();
    const looking = setInterval(() => !document.hidden && look(), LOOK_EVERY);
    return () => clearInterval(looking);
  }, []);
  if (problem) return html`<p class="note">${problem}</p>`;
  if (!found?.length) return html`<p class="note">${found ? "There are none." : "Waiting for the device."}</p>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Models for clients"><table>
    <thead><tr><th>Model</th><th class="n">Version</th><th>State</th><th>Reason</th></tr></thead>
    <tbody>${found.slice(0, 200).map((one, place) => html`<tr key=${place}>
      <td>${text(one.name, 64)}</td><td class="n">${text(one.version, 20)}</td>
      <td><${Badge} state=${text(one.state, 20).toLowerCase()} kind=${one.state === "READY" ? "good" : "quiet"} /></td><td>${text(one.reason) || "–"}</td>
    </tr>`)}</tbody>
  </table></div>`;
}

const named = (model) => (isObject(model) ? `${text(model.model, 64)} version ${count(model.version)}` : null);

export function ModelFacts({ pipeline }) {
  const known = pipeline.health ?? pipeline.model;
  if (!known) return html`<p class="note">Not known yet.</p>`;
  const proof = isObject(known.placement) ? known.placement : null;
  const left = entries(proof?.left);
  return html`<${Facts} rows=${[
    ["Model", named(known)],
    ["Runs on", `${text(known.delegate, 40) || "nothing yet"}${known.degraded ? ", which is not its first choice" : ""}`],
    ["Ops on it", proof ? percent(proof.op_share, 1) : pipeline.health?.delegate && pipeline.health.delegate !== "cpu" ? percent(pipeline.health.delegate_share, 1) : null],
    ["Arithmetic on it", isNumber(proof?.mac_share) ? percent(proof.mac_share, 1) : null],
    ["Time on it", isNumber(proof?.time_share) ? percent(proof.time_share, 1) : null],
    ["Device", text(proof?.device, 80)],
    ["Speed", proof?.speed ? `${number(proof.speed)} × the CPU` : null],
    ["A run", proof?.run_us ? span(proof.run_us) : null],
    ["Largest error", proof ? number(proof.error) : null],
    ["Ops left to the CPU", left.length ? left.slice(0, 8).map(([op, times]) => `${text(op, 40)} × ${count(times)}`).join(", ") : null],
    ["Sandbox", list(pipeline.health?.sandbox).map((part) => plain(part)).join(", ")],
    ["Its executor’s sandbox", list(proof?.sandbox).map((part) => plain(part)).join(", ")],
  ]} />`;
}

/** How far an update is: the steps to a good model, and what is known of the new one beside the old one. */
export function Update({ model }) {
  const update = isObject(model?.update) ? model.update : null;
  if (!update || update.stage === "idle") {
    return html`<${Facts} rows=${[["Last good", named(update?.good)], ["Before that", named(update?.previous)]]} />`;
  }
  const at = STAGES.indexOf(update.stage);
  const ended = update.stage === "failed" || update.stage === "rolled_back";
  return html`<h3>Update${update.wanted && html` to ${named(update.wanted)}`}</h3>
    ${ended
      ? html`<p><${Badge} state=${update.stage} kind="bad" /> ${text(update.reason)}</p>`
      : html`<ol class="steps">${STAGES.map((stage, place) => html`<li key=${stage} class=${place < at ? "done" : place === at ? "now" : ""} aria-current=${place === at ? "step" : null}>${plain(stage)}</li>`)}</ol>
        ${update.reason && html`<p class="muted">${text(update.reason)}</p>`}`}
    ${isNumber(update.progress) && html`<div class="progress"><${Bar} share=${update.progress} /><span>${percent(update.progress)} of this step</span></div>`}
    <${Facts} rows=${[
      ["Since", clock(update.since)],
      ["Last good", named(update.good)],
      ["Before that", named(update.previous)],
      ["Signed by", list(update.signed_by).map((key) => text(key, 12)).join(", ")],
      ...compared(update.compared),
    ]} />
    <${Scores} compared=${update.compared} />`;
}

/** How many scores of the new and of the old model were in each tenth from 0 to 1. */
function Scores({ compared: found }) {
  const rows = [["New", found?.scores_new, "series-0"], ["Old", found?.scores_old, "series-7"]]
    .map(([name, counts, ink]) => [name, list(counts).slice(0, 10).map((one) => (isNumber(one) ? Math.max(one, 0) : 0)), ink]);
  if (rows.some(([, counts]) => !counts.some(Boolean))) return null;
  return html`<h3>Scores from 0 to 1</h3><div class="histograms">${rows.map(([name, counts, ink]) => {
    const most = Math.max(...counts);
    return html`<figure key=${name}>
      <svg class=${`histogram ${ink}`} viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label=${`${name} model, scores by tenth: ${counts.map(count).join(", ")}`}>
        ${counts.map((one, place) => html`<rect x=${place * 10 + 0.5} width="9" y=${40 - (40 * one) / most} height=${(40 * one) / most} />`)}
      </svg><figcaption class="muted">${name}</figcaption>
    </figure>`;
  })}</div>`;
}

function compared(one) {
  if (!isObject(one)) return [];
  return [
    ["Compared on", `${count(one.windows ?? 0)} windows`],
    ["Agreement with the old model", isNumber(one.agreement) ? percent(one.agreement, 1) : null],
    ["Results and errors", `${count(one.results ?? 0)} and ${count(one.errors ?? 0)}`],
    ["Right by feedback, new and old", one.feedback ? `${count(one.right_new ?? 0)} and ${count(one.right_old ?? 0)} of ${count(one.feedback)}` : null],
    ["Median latency, new and old", isNumber(one.latency_new_us) ? `${span(one.latency_new_us)} and ${span(one.latency_old_us)}` : null],
  ];
}
