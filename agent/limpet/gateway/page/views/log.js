// The log of all processes, as it comes. Only those who may control the device see it.

import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { Stream } from "../feed.js";
import { html } from "../parts.js";
import { clock, count, isNumber, isObject, text } from "../words.js";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];
const RANK = { debug: 0, info: 1, warning: 2, error: 3, critical: 3 };

export function LogView({ state, changed, session }) {
  const [level, setLevel] = useState("INFO");
  const [wanted, setWanted] = useState("");
  const [paused, setPaused] = useState(null);
  const [problem, setProblem] = useState("");
  const box = useRef(null);
  const may = session?.control === true;
  useEffect(() => {
    if (!may) return undefined;
    const stream = new Stream(["log"], {
      take: (topic, message) => {
        state.take(topic, message, 0);
        changed();
      },
      missed: (count) => {
        state.missed += count;
      },
      changed: (_state, reason) => setProblem(reason),
    });
    return () => stream.close();
  }, [may]);
  const least = LEVELS.indexOf(level);
  const lines = (paused ?? state.lines).filter(({ line }) => rank(line) >= least && (!wanted || words(line).toLowerCase().includes(wanted.toLowerCase()))).slice(-400);
  useEffect(() => {
    const { current } = box;
    if (current && paused === null) current.scrollTop = current.scrollHeight;
  }, [lines.at(-1)?.number, paused]);
  if (!may) {
    return html`<h1>Log</h1><p class="note">The log is for those who may control this device. ${session?.login ? html`<a href="#/login">Log in with a token.</a>` : session?.reason}</p>`;
  }
  return html`<header class="title"><h1>Log</h1></header>
    <form class="filter" onSubmit=${(event) => event.preventDefault()}>
      <label>From <select value=${level} onChange=${(event) => setLevel(event.target.value)}>${LEVELS.map((one) => html`<option key=${one} value=${one}>${one.toLowerCase()}</option>`)}</select></label>
      <label>Contains <input type="search" value=${wanted} onInput=${(event) => setWanted(event.target.value)} /></label>
      <button type="button" aria-pressed=${paused !== null} onClick=${() => setPaused(paused === null ? [...state.lines] : null)}>${paused === null ? "Pause" : "Go on"}</button>
    </form>
    ${problem && html`<p class="note">${problem}</p>`}
    <ol class="log" ref=${box} tabindex="0" aria-label="Lines of the log, newest last">
      ${lines.map(({ number: key, line }) => html`<li key=${key} class=${rank(line) >= 3 ? "bad" : rank(line) === 2 ? "warn" : ""}>
        <time>${clock(line.time)}</time> <b>${text(line.process, 40)}</b> <span class="level">${text(line.level, 10).toLowerCase()}</span> <span class="words">${words(line)}</span>
      </li>`)}
    </ol>
    ${!lines.length && html`<p class="note">No line yet.</p>`}`;
}

const rank = (line) => RANK[String(isObject(line) ? line.level : "").toLowerCase()] ?? 1;
const words = (line) => {
  const before = isNumber(line.left_out) && line.left_out > 0 ? `(${count(line.left_out)} lines before were left out) ` : "";
  return before + text(line.text, 2000);
};
