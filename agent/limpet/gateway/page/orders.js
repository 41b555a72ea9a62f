// Buttons for the commands that this device takes. Each is confirmed where it interrupts something.

import { useState } from "./vendor/hooks.js";
import { Explanation } from "./explanation.js";
import { post } from "./feed.js";
import { Dialog, html } from "./parts.js";
import { count, isNumber, isObject, list, number, text } from "./words.js";

const DONE_SECONDS = 8;

const ORDERS = {
  restart: {
    name: "Restart",
    title: (of) => `Restart ${of}?`,
    says: "Its worker starts again, and with it all pipelines on the same source. Results stop for a moment.",
    done: () => "It starts again.",
  },
  threshold: {
    name: "Threshold",
    title: (of) => `Set the threshold of ${of}`,
    says: "It holds until the pipeline is started again. What is to last belongs into the configuration.",
    field: { key: "value", label: "Threshold", type: "number", step: "any", start: (pipeline) => pipeline.limit },
    done: (_reply, sent) => `The threshold is ${number(sent.value)}.`,
  },
  capture: {
    name: "Capture",
    title: (of) => `Capture the next window of ${of}`,
    says: "The device answers with the inputs of the model for its next window.",
    done: (reply) => `Captured ${list(reply.result?.inputs ?? reply.result).length || "the"} inputs.`,
    keeps: true,
  },
  explain: {
    name: "Explain",
    title: (of) => `Explain the next answer of ${of}?`,
    says: "The device asks the model about changed copies of its next window, between its own. That takes a few seconds.",
    view: Explanation,
  },
  snapshot: {
    name: "Snapshot",
    title: (of) => `Publish a picture of ${of}?`,
    says: "A picture of the last result goes to the device’s reporters, such as the broker.",
    done: (reply) => (isObject(reply.result) ? `Published: ${count(reply.result.width)} × ${count(reply.result.height)}, ${count(reply.result.bytes)} bytes.` : "Published."),
  },
  enrol: {
    name: "Enrol",
    title: (of) => `Teach ${of} a label`,
    says: "The next windows become examples of this label.",
    field: { key: "label", label: "Label", type: "text" },
    done: (reply) => `Enrolled: ${enrolled(reply)}.`,
  },
  forget: {
    name: "Forget a label",
    title: (of) => `Have ${of} forget a label`,
    says: "Its examples are removed from the device.",
    field: { key: "label", label: "Label", type: "text" },
    done: (reply) => `Enrolled now: ${enrolled(reply)}.`,
  },
  install: {
    name: "Install",
    title: (of) => `Install the new model of ${of}?`,
    says: "The model that is staged is put to work, or the last request that failed is tried again.",
    stages: ["staged", "failed", "rolled_back"],
    done: () => "The new model is installed.",
  },
  promote: {
    name: "Promote",
    title: (of) => `Promote the new model of ${of}?`,
    says: "Its shadow ends, so that it takes over; or its trial ends, so that it is good.",
    stages: ["shadow", "trial"],
    done: () => "The new model is promoted.",
  },
  cancel: {
    name: "Cancel the update",
    title: (of) => `Cancel the update of ${of}?`,
    says: "The model before goes on.",
    stages: ["downloading", "verifying", "staged", "admission", "shadow"],
    done: () => "The update is cancelled.",
  },
  rollback: {
    name: "Roll back",
    title: (of) => `Roll back the model of ${of}?`,
    says: "The last good model runs in place of one on trial, else the model before.",
    danger: true,
    rollback: true,
    done: () => "The model before runs again.",
  },
  health: {
    name: "Publish health",
    title: () => "Publish all health now?",
    says: "The device sends all its health messages to its reporters.",
    done: () => "Published.",
    device: true,
  },
  log_level: {
    name: "Log level",
    title: () => "Set the level of the log",
    says: "It holds for all processes until they are started again.",
    field: { key: "level", label: "Level", type: "select", options: ["DEBUG", "INFO", "WARNING", "ERROR"], start: () => "INFO" },
    done: (_reply, sent) => `The log begins at ${sent.level.toLowerCase()}.`,
    device: true,
  },
};

const enrolled = (reply) => Object.entries(isObject(reply.result?.labels) ? reply.result.labels : {})
  .map(([label, windows]) => `${text(label, 40)} (${count(windows)})`).join(", ") || "nothing";

export function PipelineOrders({ pipeline, session }) {
  const update = pipeline.model?.update;
  const fits = (order) => (!order.stages || order.stages.includes(update?.stage))
    && (!order.rollback || update?.good || update?.previous || update?.stage === "trial");
  const names = allowed(session).filter((name) => !ORDERS[name].device && fits(ORDERS[name]) && useful(name, pipeline));
  return html`<${Orders} names=${names} pipeline=${pipeline} session=${session} />`;
}

/** Whether a command can do anything for what this pipeline gives. The device has the last word. */
function useful(name, pipeline) {
  const output = pipeline.result?.output;
  if (name === "enrol" || name === "forget") return isObject(output) && "similarity" in output;
  if (name === "snapshot") return pipeline.words === null || pipeline.words.boxes.length > 0 || isObject(pipeline.health?.snapshots) || (isObject(output) && ("detections" in output || "poses" in output || "regions" in output));
  return true;
}

export const DeviceOrders = ({ session }) => html`<${Orders} names=${allowed(session).filter((name) => ORDERS[name].device)} session=${session} />`;

const allowed = (session) => Object.keys(ORDERS).filter((name) => list(session?.commands).includes(name));

function Orders({ names, pipeline, session }) {
  const [open, setOpen] = useState("");
  const [said, setSaid] = useState("");
  if (!session) return null;
  if (!session.control) {
    return html`<p class="note orders-note">To send commands: ${session.login ? html`<a href="#/login">log in with a token</a>.` : text(session.reason)}</p>`;
  }
  if (!names.length) return null;
  const finish = (words) => {
    setSaid(words);
    setTimeout(() => setSaid((before) => (before === words ? "" : before)), DONE_SECONDS * 1000);
  };
  return html`<div class="orders" role="group" aria-label="Commands">
    ${names.map((name) => html`<button key=${name} type="button" class=${ORDERS[name].danger ? "danger" : ""} onClick=${() => setOpen(name)}>${ORDERS[name].name}</button>`)}
    <span class="said" role="status">${said}</span>
    ${open && html`<${OrderDialog} key=${open} name=${open} pipeline=${pipeline} close=${() => setOpen("")} finish=${finish} />`}
  </div>`;
}

function OrderDialog({ name, pipeline, close, finish }) {
  const order = ORDERS[name];
  const { field } = order;
  const [value, setValue] = useState(field?.start?.(pipeline) ?? "");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const [reply, setReply] = useState(null);
  const send = async (event) => {
    event.preventDefault();
    const sent = pipeline ? { pipeline: pipeline.name } : {};
    if (field) sent[field.key] = field.type === "number" ? Number(value) : String(value);
    setBusy(true);
    setProblem("");
    try {
      const answer = await post(`api/commands/${name}`, sent);
      if (answer?.ok === false) throw new Error(text(answer.error) || "The device did not do it.");
      if (order.keeps || order.view) setReply(answer);
      else {
        finish(order.done(answer ?? {}, sent));
        close();
      }
    } catch (error) {
      setProblem(text(error.message, 500));
    }
    setBusy(false);
  };
  const ready = !field || (field.type === "number" ? value !== "" && isNumber(Number(value)) : String(value).trim() !== "");
  return html`<${Dialog} title=${order.title(pipeline?.name)} close=${close}>
    <form onSubmit=${send}>
      <p>${order.says}</p>
      ${field && html`<label class="field">${field.label}
        ${field.type === "select"
          ? html`<select value=${value} onChange=${(event) => setValue(event.target.value)}>${field.options.map((one) => html`<option key=${one} value=${one}>${one.toLowerCase()}</option>`)}</select>`
          : html`<input type=${field.type} step=${field.step} maxlength="64" value=${value} onInput=${(event) => setValue(event.target.value)} required />`}
      </label>`}
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${reply && order.view && html`<${order.view} reply=${reply} />`}
      ${reply && order.keeps && html`<p role="status">${order.done(reply)}</p>
        <pre class="json" tabindex="0" aria-label="Answer of the device">${JSON.stringify(reply.result, null, 1).slice(0, 20_000)}</pre>`}
      <div class="dialog-buttons">
        <button type="button" onClick=${(event) => event.target.closest("dialog").close()}>${reply ? "Close" : "Back"}</button>
        ${!reply && html`<button type="submit" class=${order.danger ? "danger main" : "main"} disabled=${busy || !ready}>${busy ? "Sending…" : order.name}</button>`}
      </div>
    </form>
  <//>`;
}
