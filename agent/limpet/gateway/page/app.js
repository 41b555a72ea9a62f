// The page: one state, one stream, and views by the part of the address after "#".

import { render } from "./vendor/preact.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";
import { Refused, Stream, post, request } from "./feed.js";
import { Guarded, html } from "./parts.js";
import { State } from "./state.js";
import { count, list, text } from "./words.js";
import { DeviceView } from "./views/device.js";
import { EventsView } from "./views/events.js";
import { LogView } from "./views/log.js";
import { Login } from "./views/login.js";
import { Models } from "./views/models.js";
import { Overview } from "./views/overview.js";
import { PipelineView } from "./views/pipeline.js";

const DRAWN_EVERY = 250;
const DEVICE_EVERY = 5000;
const SAID_EVERY = 5000;
const VIEWS = [["", "Overview"], ["models", "Models"], ["device", "Device"], ["events", "Events"], ["log", "Log"]];
const MOST_FETCHED = 32;

const state = new State();
const page = { session: null, stream: "connecting", reason: "", said: "", saidAt: 0, eventCount: 0 };
let stream = null;
let draw = () => {};
let drawing = 0;

/** Draw soon, a few times a second at most. */
function changed() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    draw();
  }, DRAWN_EVERY);
}

const now = () => performance.now() / 1000;

/** Say aloud what a person should hear of: changes of pipelines, not every result. */
function announce() {
  if (state.eventCount === page.eventCount || Date.now() - page.saidAt < SAID_EVERY) return;
  page.eventCount = state.eventCount;
  page.saidAt = Date.now();
  const { event } = state.events.at(-1);
  page.said = `${text(event.pipeline, 64) || "Device"}: ${text(event.event, 40).replaceAll("_", " ")} ${text(event.reason, 100)}`;
}

/** Ask who this browser is, and begin with what the device already knows. */
async function begin() {
  stream?.close();
  stream = null;
  try {
    page.session = await request("api/session");
    if (!page.session.view) {
      locked(page.session.reason);
      return;
    }
    await lookBack();
  } catch (error) {
    refused(error);
    if (page.stream === "refused") return;
  }
  stream = new Stream(["status", "result", "event", "health", "input", "model"], {
    take: (topic, message) => {
      state.take(topic, message, now());
      changed();
    },
    missed: (missed) => {
      state.missed += missed;
      changed();
    },
    changed: (named, reason) => {
      if (named === "refused") locked(reason);
      else {
        page.stream = named;
        page.reason = reason;
        if (named === "live" && !page.session) askSession();
        changed();
      }
    },
  });
  changed();
}

/** Ask again: the device did not answer when the page was opened. */
async function askSession() {
  page.session = await request("api/session").catch(() => null);
  changed();
}

/** Get what happened before the page was opened: curves and lists are not empty then. */
async function lookBack() {
  state.takeDevice(await request("api/device"));
  for (const event of list(await request("api/events?last=100").catch(() => []))) state.take("event", event, now());
  page.eventCount = state.eventCount;
  await Promise.all([...state.pipelines.keys()].slice(0, MOST_FETCHED).map(async (name) => {
    const results = await request(`api/pipelines/${encodeURIComponent(name)}/results?last=100`).catch(() => []);
    state.take(`result/${name}`, list(results), now());
  }));
  changed();
}

function locked(reason) {
  stream?.close();
  stream = null;
  page.stream = "refused";
  page.reason = reason;
  changed();
}

function refused(error) {
  if (error instanceof Refused && (error.status === 401 || error.status === 403)) locked(error.message);
  else {
    page.stream = "connecting";
    page.reason = error.message;
    changed();
  }
}

/** The stream has the device's health rarely: ask for it while somebody looks. */
async function lookAtDevice() {
  if (document.hidden || page.stream !== "live") return;
  try {
    state.takeDevice(await request("api/device"));
    changed();
  } catch (error) {
    if (error.status === 401) refused(error);
  }
}

async function login(token) {
  await post("api/login", { token });
  if (location.hash === "#/login") location.hash = "#/";
  await begin();
}

async function logout() {
  await post("api/logout", {}).catch(() => {});
  location.reload();
}

function place() {
  const [view = "", name = ""] = location.hash.replace(/^#\/?/, "").split("/");
  try {
    return { view, name: decodeURIComponent(name) };
  } catch {
    return { view: "", name: "" };
  }
}

function Content({ at }) {
  const { session } = page;
  if (page.stream === "refused" || at.view === "login") return html`<${Login} login=${login} reason=${at.view === "login" ? "" : page.reason} />`;
  if (at.view === "pipelines") return html`<${PipelineView} key=${at.name} state=${state} name=${at.name} now=${now()} session=${session} />`;
  if (at.view === "models") return html`<${Models} state=${state} />`;
  if (at.view === "device") return html`<${DeviceView} state=${state} session=${session} />`;
  if (at.view === "events") return html`<${EventsView} state=${state} />`;
  if (at.view === "log") return html`<${LogView} state=${state} changed=${changed} session=${session} />`;
  return html`<${Overview} state=${state} now=${now()} />`;
}

const THEMES = ["auto", "light", "dark"];

/** Return the colours that a person chose here before. A browser may keep nothing. */
function chosenTheme() {
  try {
    return THEMES.find((one) => one === localStorage.getItem("theme")) ?? "auto";
  } catch {
    return "auto";
  }
}

function keepTheme(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // They hold until the page is closed.
  }
}

function Theme() {
  const [theme, setTheme] = useState(chosenTheme);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    keepTheme(theme);
    changed();
  }, [theme]);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  return html`<button type="button" class="quiet" onClick=${() => setTheme(next)} aria-label=${`Colours: ${theme}. Change to ${next}`}>${{ auto: "◐", light: "☀", dark: "☾" }[theme]}</button>`;
}

const LINK = { live: ["good", "live"], connecting: ["warn", "connecting"], refused: ["bad", "locked"] };

function App() {
  const [, redraw] = useState(0);
  const [at, setAt] = useState(place);
  const main = useRef(null);
  useEffect(() => {
    draw = () => {
      announce();
      redraw((before) => before + 1);
    };
    const go = () => {
      setAt(place());
      scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    };
    addEventListener("hashchange", go);
    const looking = setInterval(lookAtDevice, DEVICE_EVERY);
    begin();
    return () => {
      removeEventListener("hashchange", go);
      clearInterval(looking);
    };
  }, []);
  const device = text(state.device?.device ?? page.session?.device, 64);
  const view = VIEWS.find(([path]) => path === at.view)?.[1] ?? (at.view === "pipelines" ? at.name : "Log in");
  useEffect(() => {
    document.title = `${view} – ${device || "Limpet"}`;
  }, [view, device]);
  const [kind, word] = LINK[page.stream];
  const closed = page.stream === "refused";
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <header class="top">
      <a class="mark" href="#/" ><img src="static/icon.svg" alt="" width="26" height="26" /><b>${device || "Limpet"}</b><span class="out-of-sight">, overview</span></a>
      ${!closed && html`<nav aria-label="Views">${VIEWS.map(([path, name]) => html`<a key=${path} href=${`#/${path}`} aria-current=${path === at.view || (path === "" && at.view === "pipelines") ? (path === at.view ? "page" : "true") : null}>${name}</a>`)}</nav>`}
      <div class="top-right">
        <span class=${`badge ${kind}`} title=${page.reason}>${word}</span>
        <${Theme} />
        ${page.session?.logged_in && html`<button type="button" class="quiet" onClick=${logout}>Log out</button>`}
      </div>
    </header>
    ${page.reason && !closed && html`<p class="banner" role="status">${page.reason}</p>`}
    <main id="main" ref=${main} tabindex="-1"><${Guarded} key=${location.hash}><${Content} at=${at} /><//></main>
    <footer>
      <span>Limpet ${text(state.device?.version ?? page.session?.version, 40)}</span>
      ${state.missed > 0 && html`<span>${count(state.missed)} messages were left out for this browser</span>`}
      ${state.strange > 0 && html`<span>${count(state.strange)} messages could not be shown</span>`}
      <a href="openapi.json">API</a><a href="metrics">Metrics</a>
    </footer>
    <p class="out-of-sight" role="status" aria-live="polite">${page.said}</p>`;
}

render(html`<${App} />`, document.getElementById("app"));
