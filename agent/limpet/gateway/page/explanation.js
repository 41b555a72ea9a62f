// An explanation of the device: bars, or a heat map of squares. Its numbers are foreign, as all that devices send.

import { Bar, html } from "./parts.js";
import { count, isNumber, isObject, list, number, percent, text } from "./words.js";

const HIDDEN = { typical: "typical", mean: "mean", zero: "zero" };
const MOST_BARS = 16;
const MOST_SQUARES = 1024;

/** What the answer of a window hangs on. `reply`: that of the command `explain`. */
export function Explanation({ reply }) {
  const found = isObject(reply?.result?.explanation) ? reply.result.explanation : {};
  const parts = list(found.parts).filter((part) => isObject(part) && isNumber(part.value)).slice(0, MOST_SQUARES);
  const most = Math.max(...parts.map((part) => Math.abs(part.value)), 0) || 1;
  const [rows, columns] = list(found.shape);
  const mapped = isNumber(columns) && columns > 0 && rows * columns === parts.length;
  return html`<p role="status"><b>${text(found.label, 60)}</b> ${number(found.value)}; with all ${text(found.by, 20)} hidden ${number(found.hidden)}.</p>
    ${mapped ? html`<${Heat} parts=${parts} columns=${columns} rows=${rows} most=${most} />` : html`<${Ranked} parts=${parts} most=${most} />`}
    ${list(found.changes).slice(0, 3).map((change, place) => html`<p key=${place}>${place ? "Or" : "Smallest change"}: ${changed(change)}.</p>`)}
    ${Array.isArray(found.changes) && !found.changes.length && html`<p>No small change gives another answer.</p>`}
    ${list(found.notes).slice(0, 8).map((note, place) => html`<p class="note" key=${place}>${text(note)}</p>`)}
    <p class="note">${text(found.method, 20)}${found.exact ? "" : ", sampled"}, ${count(found.invokes)} runs of the model. Hidden parts have ${HIDDEN[found.baseline] ?? "other"} values. Blue raises the number, red lowers it.</p>`;
}

const Ranked = ({ parts, most }) => html`<ul class="bars" aria-label="Contributions">
  ${[...parts].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, MOST_BARS).map((part, place) => html`<li key=${place}>
    <span class="bar-name">${text(part.name, 60)}</span>
    <${Bar} share=${Math.abs(part.value) / most} ink=${part.value < 0 ? "--against" : "--for"} />
    <span class="bar-value">${number(part.value)}</span>
  </li>`)}
</ul>`;

function Heat({ parts, columns, rows, most }) {
  const best = parts.reduce((a, b) => (b.value > a.value ? b : a), parts[0]);
  return html`<svg class="heat" viewBox=${`0 0 ${columns} ${rows}`} preserveAspectRatio="none" role="img" aria-label=${`Heat map of ${parts.length} parts; most: ${text(best.name, 60)} ${number(best.value)}`}>
      ${parts.map((part, place) => html`<rect key=${place} class=${part.value < 0 ? "against" : "for"} x=${place % columns} y=${Math.floor(place / columns)} width="1" height="1" fill-opacity=${Math.abs(part.value) / most} />`)}
    </svg>
    <p>Most: ${text(best.name, 60)} ${number(best.value)}.</p>`;
}

function changed(change) {
  const names = list(change?.parts).slice(0, 8).map((name) => text(name, 60)).join(", ");
  const spreads = isNumber(change?.spreads) ? ` (${number(change.spreads)} standard deviations)` : "";
  const how = {
    shift: `${names} ${change?.size > 0 ? "+" : ""}${number(change?.size)}${spreads}`,
    gain: `${names} with ${number(change?.size)} times its swing`,
    hide: `hiding ${names} (${percent(change?.size)})`,
  }[change?.kind];
  return `${how ?? names} gives ${change?.answer ? text(change.answer, 60) : "no answer"}`;
}
