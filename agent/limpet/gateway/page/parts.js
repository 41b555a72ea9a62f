// The small parts that views are made of.

import { h } from "./vendor/preact.js";
import { useEffect, useErrorBoundary, useRef, useState } from "./vendor/hooks.js";
import htm from "./vendor/htm.js";
import { Chart, colour } from "./chart.js";
import { clock, eventText, number, percent, plain, text } from "./words.js";

export const html = htm.bind(h);

const STATES = { running: "good", finished: "quiet", stopped: "quiet", starting: "quiet", waiting: "warn", failed: "bad" };

/** The state of a pipeline, as a word with a dot. */
export const Badge = ({ state, kind }) => html`<span class="badge ${kind ?? STATES[state] ?? "quiet"}">${plain(state)}</span>`;

/** A part of a page with a heading. What fails in it fails alone. */
export function Panel({ title, id, aside, wide, children }) {
  return html`<section class=${wide ? "panel wide" : "panel"} aria-labelledby=${id}>
    <div class="panel-head"><h2 id=${id}>${title}</h2>${aside}</div>
    <${Guarded}>${children}<//>
  </section>`;
}

/** Shows its children, or that they cannot be shown. */
export function Guarded({ children }) {
  const [error] = useErrorBoundary();
  return error ? html`<p class="note">This part cannot be shown: the device sent data of another form.</p>` : children;
}

/** A figure with its name. */
export const Figure = ({ name, value, note, kind }) => html`<div class="figure">
  <dt>${name}</dt><dd class=${kind}>${value}${note && html`<small>${note}</small>`}</dd>
</div>`;

/** Names and values, one a line. Those without a value are left out. */
export const Facts = ({ rows }) => html`<dl class="facts">
  ${rows.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
</dl>`;

/** Shares from 0 to 1, as bars with names. */
export const Bars = ({ rows, label }) => html`<ul class="bars" aria-label=${label}>
  ${rows.map(([name, share], place) => html`<li key=${`${place} ${name}`}>
    <span class="bar-name">${name}</span>
    <${Bar} share=${share} ink=${colour(place)} />
    <span class="bar-value">${percent(share)}</span>
  </li>`)}
</ul>`;

/** One bar. SVG attributes are no styles, so that no inline style is needed. */
export function Bar({ share, ink = "--accent", marks = [] }) {
  const width = Math.min(Math.max(share, 0), 1) * 100;
  return html`<svg class="bar ${ink.slice(2)}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
    <rect class="bar-ground" width="100" height="8" />
    ${marks.map((mark) => html`<rect class="bar-mark" width=${Math.min(mark, 1) * 100} height="8" />`)}
    <rect class="bar-ink" width=${width} height="8" />
  </svg>`;
}

/** Each channel on its own scale, in a row of its own. */
export const Channels = ({ curves }) => html`<ul class="channels">
  ${[...curves].map(([name, curve]) => html`<li key=${name}>
    <span class="channel-name">${text(name, 40)}</span>
    <${Chart} name=${text(name, 40)} curves=${new Map([[name, curve]])} plain />
    <b>${number(curve.last)}</b>
  </li>`)}
</ul>`;

/** What belongs to which curve. */
export const Legend = ({ curves, unit = "" }) => html`<ul class="legend">
  ${[...curves].map(([name, curve], place) => html`<li key=${name} class=${colour(place).slice(2)}>
    <span class="swatch" aria-hidden="true"></span>${text(name, 40)} <b>${number(curve.last)}${unit}</b>
  </li>`)}
</ul>`;

const SERIOUS = /fail|crash|hung|killed|lost|refused|rolled|error|denied/;

/** Events, newest first. */
export const Events = ({ events, withPipeline = true }) => events.length
  ? html`<ol class="events">
    ${events.toReversed().map(({ number: key, event }) => html`<li key=${key} class=${SERIOUS.test(event.event) ? "serious" : ""}>
      <time datetime=${text(event.time, 40)}>${clock(event.time, event.clock)}</time>
      ${withPipeline && html`<span class="event-of">${text(event.pipeline, 64) || "device"}</span>`}
      <span class="event-text">${eventText(event)}</span>
    </li>`)}
  </ol>`
  : html`<p class="note">No events since this page was opened.</p>`;

/**
 * The newest picture of a pipeline with what was found drawn on it. The device draws one when it is wanted, so none
 * is asked for while nobody can see it.
 */
export function Picture({ pipeline, label, seconds }) {
  const canvas = useRef(null);
  const [state, setState] = useState("waiting for the device");
  useEffect(() => {
    let ended = false;
    let timer = 0;
    const look = async () => {
      const problem = document.hidden ? "" : await show(canvas.current, pipeline);
      if (ended) return;
      if (!document.hidden) setState(problem);
      timer = setTimeout(look, 1000 * (problem ? Math.max(seconds, 3) : seconds));
    };
    look();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [pipeline, seconds]);
  return html`<figure class="picture">
    <canvas ref=${canvas} role="img" aria-label=${label} hidden=${state !== ""}></canvas>
    ${state && html`<figcaption class="note">No picture: ${state}.</figcaption>`}
  </figure>`;
}

/** Get a picture and draw it. Return what is wrong, "" if nothing is. */
async function show(canvas, pipeline) {
  let answer;
  try {
    answer = await fetch(`api/pipelines/${encodeURIComponent(pipeline)}/picture.jpg`, { cache: "no-store" });
    if (!answer.ok) return text((await answer.json()).error).replace(/\.$/, "") || `status ${answer.status}`;
    const picture = await createImageBitmap(await answer.blob());
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    return "";
  } catch {
    return answer?.ok ? "it is no picture that a browser can show" : "the device does not answer";
  }
}

/** A dialog that a person confirms, or closes with Escape. */
export function Dialog({ title, close, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${close} onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
    <div class="dialog"><h2 id="dialog-title">${title}</h2>${children}</div>
  </dialog>`;
}
