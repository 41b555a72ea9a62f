// What is known of the device: a message goes in, and changes what is shown. No DOM and no network here.

import { describe, isNumber, isObject, list } from "./words.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const MOST_NAMES = 256;
const MOST_EVENTS = 300;
const MOST_LINES = 1000;
const MOST_CURVES = 16;
export const SECONDS = 60;
const BIN = 0.2;
const RATE_SECONDS = 10;

/** A curve: for each fifth of a second the lowest, the highest and the last value, over the last minute. */
export class Curve {
  constructor() {
    this.bins = [];
  }

  add(time, value) {
    const at = Math.floor(time / BIN) * BIN;
    const last = this.bins.at(-1);
    if (last && at < last.at - SECONDS) this.bins = []; // the clock was set
    if (last && at <= last.at) {
      last.low = Math.min(last.low, value);
      last.high = Math.max(last.high, value);
      last.value = value;
      return;
    }
    this.bins.push({ at, low: value, high: value, value });
    while (this.bins[0].at < at - SECONDS) this.bins.shift();
  }

  get last() {
    return this.bins.at(-1)?.value;
  }

  get range() {
    return [Math.min(...this.bins.map((bin) => bin.low)), Math.max(...this.bins.map((bin) => bin.high))];
  }
}

class Pipeline {
  constructor(name) {
    this.name = name;
    this.health = null;
    this.model = null;
    this.result = null;
    this.words = null;
    this.curves = new Map();
    this.limit = null;
    this.latency = new Map();
    this.results = [];
    this.marks = [];
    this.seen = 0;
  }

  get state() {
    return this.health?.state ?? this.model?.state ?? "unknown";
  }

  get reason() {
    return this.health?.reason ?? this.model?.reason ?? "";
  }

  /** Return results a second, over the last ten seconds. */
  rate(now) {
    const marks = this.marks.filter(([at]) => at > now - RATE_SECONDS);
    if (marks.length < 2) return null;
    const elapsed = now - marks[0][0];
    return elapsed >= 0.5 ? Math.max(marks.at(-1)[1] - marks[0][1], 0) / elapsed : null;
  }

  /** Return latencies from the newest sample to the result, of the results that are kept, as a stage has them. */
  get whole() {
    const found = this.results.map((one) => one.latency).filter(isNumber).sort((a, b) => a - b);
    const at = (share) => found[Math.min(Math.floor(share * found.length), found.length - 1)];
    return { count: found.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) };
  }

  takeResult(result, now) {
    if (!isNumber(result.sequence) || (this.result && result.boot === this.result.boot && result.sequence <= this.seen)) return;
    this.result = result;
    this.seen = result.sequence;
    this.words = describe(result.output);
    this.limit = this.words.limit;
    this.results.push({ sequence: result.sequence, time: result.time, clock: result.clock, latency: result.latency_us, words: this.words });
    if (this.results.length > 100) this.results.splice(0, this.results.length - 100);
    const last = this.marks.at(-1);
    if (last && now - last[0] < 0.1) last[1] = result.sequence;
    else this.marks.push([now, result.sequence]);
    if (this.marks.length > 150) this.marks.shift();
    const time = isNumber(result.monotonic_ns) ? result.monotonic_ns / 1e9 : now;
    for (const [name, value] of this.words.numbers.length ? this.words.numbers : this.words.shares) {
      addTo(this.curves, name, time, value);
    }
  }

  takeHealth(health) {
    this.health = health;
    if (!isObject(health.latency_us)) return;
    for (const [stage, one] of Object.entries(health.latency_us)) {
      if (isObject(one) && one.count > 0 && stage.length < 40 && (this.latency.has(stage) || this.latency.size < 12)) {
        this.latency.set(stage, one);
      }
    }
  }
}

function addTo(curves, name, time, value) {
  if (!isNumber(value) || (!curves.has(name) && curves.size >= MOST_CURVES)) return;
  if (!curves.has(name)) curves.set(name, new Curve());
  curves.get(name).add(time, value);
}

class Source {
  constructor() {
    this.newest = null;
    this.curves = new Map();
  }

  take(input) {
    this.newest = input;
    const end = Date.parse(input.time) / 1000;
    const rows = list(input.values).slice(-64);
    const names = list(input.channels);
    rows.forEach((row, place) => {
      const age = isNumber(input.rate) && input.rate > 0 ? (rows.length - 1 - place) / input.rate : 0;
      list(row).slice(0, MOST_CURVES).forEach((value, channel) => {
        addTo(this.curves, String(names[channel] ?? `channel ${channel + 1}`).slice(0, 40), end - Math.min(age, 1), value);
      });
    });
  }
}

export class State {
  constructor() {
    this.boot = "";
    this.status = null;
    this.device = null;
    this.deviceCurves = new Map();
    this.pipelines = new Map();
    this.sources = new Map();
    this.events = [];
    this.eventCount = 0;
    this.lines = [];
    this.missed = 0;
    this.strange = 0;
  }

  /** Return the source that feeds a pipeline, if its values are known. */
  sourceOf(pipeline) {
    for (const source of this.sources.values()) {
      if (list(source.newest.pipelines).includes(pipeline)) return source;
    }
    return null;
  }

  /** Take a message as the stream has it. One of another form is counted, and changes nothing. */
  take(topic, message, now) {
    try {
      this.#take(String(topic), message, now);
    } catch {
      this.strange += 1;
    }
  }

  #take(topic, message, now) {
    const [kind, ...rest] = topic.split("/");
    const name = kind === "model" ? rest[0] : rest.join("/");
    if (!isObject(message)) {
      if (kind === "result" && Array.isArray(message)) message.forEach((one) => this.#take(topic, one, now));
      else this.strange += 1;
      return;
    }
    if (name && !NAME.test(name)) {
      this.strange += 1;
      return;
    }
    if (kind === "status") this.#begin(message);
    else if (kind === "health" && !name) this.takeDevice(message);
    else if (kind === "event") this.#event(message);
    else if (kind === "log") this.#line(message);
    else if (kind === "input") this.#source(name)?.take(message);
    else if (kind === "result") this.pipeline(name)?.takeResult(message, now);
    else if (kind === "health") this.pipeline(name)?.takeHealth(message);
    else if (kind === "model") this.#model(name, message);
  }

  /** Take the device's health. A device that started again begins anew. */
  takeDevice(health) {
    if (this.boot && health.boot !== this.boot) this.#forget();
    this.boot = String(health.boot ?? "");
    this.device = health;
    const time = Date.parse(health.time) / 1000;
    addTo(this.deviceCurves, "CPU", time, health.cpu_share);
    addTo(this.deviceCurves, "memory", time, health.pss_mb);
    addTo(this.deviceCurves, "temperature", time, health.temperature_c);
    if (!isObject(health.pipelines)) return;
    for (const gone of [...this.pipelines.keys()].filter((one) => !Object.hasOwn(health.pipelines, one))) this.pipelines.delete(gone);
    for (const name of Object.keys(health.pipelines)) this.pipeline(name);
  }

  #begin(status) {
    if (this.boot && status.boot !== this.boot) this.#forget();
    this.boot = String(status.boot ?? "");
    this.status = status;
  }

  #forget() {
    this.pipelines = new Map();
    this.sources = new Map();
    this.device = null;
    this.deviceCurves = new Map();
  }

  #model(name, message) {
    const pipeline = this.pipeline(name);
    if (pipeline) pipeline.model = message;
  }

  #event(message) {
    const key = JSON.stringify([message.time, message.event, message.pipeline, message.reason, message.details]);
    if (this.events.some((one) => one.key === key)) return; // one comes again after a new connection
    this.eventCount += 1;
    this.events.push({ key, number: this.eventCount, event: message });
    if (this.events.length > MOST_EVENTS) this.events.shift();
  }

  #line(message) {
    const key = JSON.stringify([message.time, message.process, message.text]);
    if (this.lines.some((one) => one.key === key)) return; // a new stream begins with the last lines
    this.lines.push({ key, number: (this.lines.at(-1)?.number ?? 0) + 1, line: message });
    if (this.lines.length > MOST_LINES) this.lines.shift();
  }

  #source(name) {
    if (!this.sources.has(name)) {
      if (this.sources.size >= MOST_NAMES) return null;
      this.sources.set(name, new Source());
    }
    return this.sources.get(name);
  }

  pipeline(name) {
    if (!NAME.test(name)) return null;
    if (!this.pipelines.has(name)) {
      if (this.pipelines.size >= MOST_NAMES) return null;
      this.pipelines.set(name, new Pipeline(name));
    }
    return this.pipelines.get(name);
  }
}
