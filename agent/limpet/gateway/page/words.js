// Results, counts and times in words. No DOM here.
//
// Whatever comes from the device is foreign: labels are a model's, reasons a sensor's or a broker's. Each text is
// cleaned here and becomes a text node; nothing is ever parsed as HTML.

const LONGEST = 200;
const SHOWN = 8;

// Causes in `dropped` that count faults of the source's device; all others count samples.
const SOURCE_FAULTS = new Set([
  "busy", "codec", "control", "driver", "ended", "login", "missing", "no_access", "not_found", "resized", "timeout",
  "tls", "unplugged", "unreachable", "wrong_format",
]);

// Control characters, and those that turn the direction of a text around or have no width.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Return a text from outside in one line of printable characters. */
export function text(value, longest = LONGEST) {
  const given = typeof value === "string" ? value : value === null || value === undefined ? "" : String(value);
  const cut = given.slice(0, longest + 1).replace(/\s+/g, " ").replace(UNPRINTABLE, "\ufffd").trim();
  return cut.length > longest ? `${cut.slice(0, longest)}…` : cut;
}

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
export const list = (value) => (Array.isArray(value) ? value : []);
export const entries = (value) => (isObject(value) ? Object.entries(value) : []);

/** Return a number with three digits. */
export function number(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size >= 100 && size < 1e6) return value.toFixed(0);
  return String(Number(value.toPrecision(3)));
}

/** Return a count with commas. */
export function count(value) {
  if (!isNumber(value)) return "–";
  return Math.abs(value) < 1e15 ? Math.round(value).toLocaleString("en-US") : "very many";
}

export function percent(value, digits = 0) {
  return isNumber(value) && Math.abs(value) < 1000 ? `${(value * 100).toFixed(digits)} %` : "–";
}

/** Return a duration, from µs. */
export function span(us) {
  if (!isNumber(us) || us < 0) return "–";
  if (us < 999.5) return `${number(us)} µs`;
  if (us < 999_500) return `${number(us / 1000)} ms`;
  return duration(us / 1e6);
}

/** Return a duration, from seconds. */
export function duration(seconds) {
  if (!isNumber(seconds) || seconds < 0) return "–";
  if (seconds < 60) return `${number(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${count(Math.floor(seconds / 86_400))} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export function rate(perSecond) {
  return isNumber(perSecond) ? `${number(perSecond)}/s` : "–";
}

export function megabytes(value) {
  if (!isNumber(value)) return "–";
  return value >= 10_000 ? `${number(value / 1000)} GB` : `${number(value)} MB`;
}

/** Return the time of day of an ISO time, in the browser's time zone. */
export function clock(iso, mark) {
  const time = new Date(typeof iso === "string" ? iso : Number.NaN);
  if (Number.isNaN(time.getTime())) return "–";
  if (mark === "unsynchronised") return "clock not set";
  const two = (part) => String(part).padStart(2, "0");
  const day = new Date().toDateString() === time.toDateString();
  const hours = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  return day ? hours : `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${hours}`;
}

/** Return the counts of `dropped`, largest first: samples, and faults of the source's device. */
export function drops(dropped) {
  const found = entries(dropped).filter(([, value]) => isNumber(value) && value > 0).sort((a, b) => b[1] - a[1]);
  return {
    samples: found.filter(([cause]) => !SOURCE_FAULTS.has(cause)),
    faults: found.filter(([cause]) => SOURCE_FAULTS.has(cause)),
  };
}

const FAULTS = new Map([
  ["stuck", "the sensor repeats the same value"],
  ["saturated", "the sensor is at its limit"],
  ["drop_out", "the sensor drops samples"],
  ["rate", "samples come at another rate"],
  ["clock", "the sensor's clock drifts"],
  ["unit", "the sensor seems to measure in another unit"],
]);

/** Return the alarms that monitors of a pipeline have, each with its `text` and since when. */
export function alarms(health) {
  const held = entries(health?.monitors?.monitors).filter(([, one]) => isObject(one?.alarm));
  return held.map(([monitor, { alarm }]) => {
    const moved = list(alarm.moved).slice(0, 3).map((one) => `${text(one?.name, 96)} moved from ${number(one?.before)} to ${number(one?.now)}`);
    const parts = [FAULTS.get(alarm.fault), moved.join(", "), text(alarm.reason)].filter(Boolean);
    return { monitor, since: alarm.since, text: `${plain(monitor)}: ${parts.join("; ") || "the windows are not like those of the reference"}` };
  });
}

export const total = (counts) => counts.reduce((sum, [, value]) => sum + value, 0);

/** Return a cause or a reason code as words. */
export const plain = (code) => text(code, 80).replaceAll("_", " ");

/**
 * Return a decoder's output in words.
 *
 * `alarm`: a person should see it. `shares`: classes with their scores, best first. `numbers`: by name, what is
 * worth a curve. `limit`: what the only one is compared with. `boxes`: what was found in a picture.
 */
export function describe(output) {
  const nothing = { text: "", alarm: false, shares: [], numbers: [], limit: null, boxes: [] };
  if (!isObject(output)) return { ...nothing, text: text(asJson(output)) };
  const [, tell] = KINDS.find(([keys]) => keys.every((key) => Object.hasOwn(output, key))) ?? [null, null];
  try {
    const found = { ...nothing, ...(tell ? tell(output) : { text: text(asJson(output)) }) };
    if (output.untrained === true) found.text += ` (still learning, ${percent(output.learned)})`;
    return found;
  } catch {
    return { ...nothing, text: text(asJson(output)) };
  }
}

function asJson(value) {
  try {
    return JSON.stringify(value) ?? "";
  } catch {
    return "a result that cannot be shown";
  }
}

const label = (value) => text(value, 40);
const scored = (value) => (isNumber(value) && Math.abs(value) <= 10 ? ` ${percent(value)}` : "");

function shares(found) {
  return list(found)
    .filter((one) => isObject(one) && isNumber(one.score))
    .slice(0, SHOWN)
    .map((one) => [label(one.label), one.score]);
}

function counted(counts) {
  const there = entries(counts).filter(([, value]) => isNumber(value) && value > 0);
  const named = there.slice(0, SHOWN).map(([name, value]) => `${count(value)} ${label(name)}`);
  return named.join(", ") + (there.length > SHOWN ? ", …" : "") || "nothing found";
}

function inZones(zones) {
  const there = entries(zones)
    .map(([zone, counts]) => [zone, total(entries(counts).filter(([, value]) => isNumber(value)))])
    .filter(([, value]) => value > 0);
  return there.length ? ` (${there.slice(0, SHOWN).map(([zone, value]) => `${count(value)} in ${label(zone)}`).join(", ")})` : "";
}

function boxes(found) {
  return list(found)
    .filter((one) => isObject(one) && list(one.box).length === 4 && one.box.every(isNumber))
    .slice(0, 50)
    .map((one) => ({
      label: label(one.label),
      score: isNumber(one.score) ? one.score : one.share,
      box: one.box,
      id: isNumber(one.id) ? one.id : null,
      zones: list(one.zones).map((zone) => label(zone)),
    }));
}

function inPicture(output, found) {
  const counts = entries(output.counts).filter(([, value]) => isNumber(value));
  return {
    text: counted(output.counts) + inZones(output.zones),
    numbers: counts.length ? counts.slice(0, SHOWN).map(([name, value]) => [label(name), value]) : [["found", found.length]],
    boxes: boxes(found),
  };
}

const KINDS = [
  [["anomalous", "score"], (output) => ({
    text: isNumber(output.score)
      ? `${output.anomalous ? "Anomaly" : "Normal"}, score ${number(output.score)}`
      : "no score",
    alarm: output.anomalous === true,
    numbers: isNumber(output.score) ? [["score", output.score]] : [],
    limit: isNumber(output.threshold) ? output.threshold : null,
  })],
  [["detections", "counts"], (output) => inPicture(output, output.detections)],
  [["poses", "counts"], (output) => inPicture(output, output.poses)],
  [["shares", "regions"], (output) => {
    const there = entries(output.shares).filter(([, part]) => isNumber(part) && part > 0).sort((a, b) => b[1] - a[1]);
    const best = there.slice(0, SHOWN).map(([name, part]) => [label(name), part]);
    return {
      text: best.map(([name, part]) => `${name} ${percent(part)}`).join(", ") || "nothing found",
      shares: best,
      boxes: boxes(output.regions),
    };
  }],
  [["values", "units"], (output) => {
    const values = entries(output.values);
    const reach = (name) => {
      const between = isObject(output.intervals) ? list(output.intervals[name]) : [];
      return between.length === 2 ? ` (${number(between[0])} to ${number(between[1])})` : "";
    };
    const unit = (name) => (isObject(output.units) && output.units[name] ? ` ${text(output.units[name], 10)}` : "");
    return {
      text: values.slice(0, SHOWN).map(([name, value]) => `${label(name)} ${number(value)}${unit(name)}${reach(name)}`).join(", ")
        + (output.in_range === false ? " (out of range)" : "") + (output.abstained === true ? " (unsure)" : ""),
      alarm: output.in_range === false,
      numbers: values.filter(([, value]) => isNumber(value)).slice(0, SHOWN).map(([name, value]) => [label(name), value]),
    };
  }],
  [["keyword", "scores"], (output) => ({
    text: output.keyword === null ? `listening${scored(output.score)}` : `heard ${label(output.keyword)}${scored(output.score)}`,
    alarm: output.keyword !== null,
    shares: entries(output.scores).filter(([, score]) => isNumber(score)).slice(0, SHOWN).map(([name, score]) => [label(name), score]),
  })],
  [["top", "abstained"], (output) => {
    const best = shares(output.top);
    const unsure = output.label === null || output.abstained;
    return {
      text: (unsure ? `unsure${best.length ? `: ${best[0][0]}${scored(best[0][1])}` : ""}` : `${label(output.label)}${scored(output.score)}`)
        + (list(output.set).length > 1 ? ` of ${list(output.set).slice(0, SHOWN).map(label).join(", ")}` : ""),
      shares: best,
    };
  }],
  [["similarity", "top"], (output) => {
    const best = shares(output.top);
    const unknown = best.length ? "not known" : "nothing is enrolled";
    return { text: output.label === null ? unknown : `${label(output.label)}${scored(output.similarity)}`, shares: best };
  }],
  [["nearest", "distance"], (output) => ({
    text: output.label === null
      ? `unknown${output.nearest === null ? "" : `, nearest ${label(output.nearest)}`}`
      : `${label(output.label)}, distance ${number(output.distance)}`,
    alarm: output.label === null,
    numbers: isNumber(output.distance) ? [["distance", output.distance]] : [],
  })],
  [["tensors"], (output) => ({
    text: list(output.tensors).slice(0, SHOWN).map((one) => `${label(one?.name)} [${text(list(one?.shape).join(" × "), 40)}]`).join(", "),
    numbers: list(output.tensors).filter((one) => list(one?.values).length === 1 && isNumber(one.values[0]))
      .slice(0, SHOWN).map((one) => [label(one.name), one.values[0]]),
  })],
  [["labels", "abstained"], (output) => {
    const best = shares(output.labels);
    return { text: best.map(([name, score]) => `${name}${scored(score)}`).join(", ") || "no label applies", shares: best };
  }],
];

/** Return an event in words. */
export function eventText(event) {
  const details = isObject(event.details) ? event.details : null;
  const kind = plain(event.event);
  const reason = text(event.reason);
  if (!details) return reason ? `${kind}: ${reason}` : kind;
  if (details.event === "keyword" || kind === "keyword") return `heard ${label(details.label)}${scored(details.score)}`;
  const what = `${label(details.label)} ${isNumber(details.id) ? details.id : ""}`.trim();
  if (details.zone !== undefined) return `${what} ${text(details.type, 20)} ${label(details.zone)}`;
  if (details.line !== undefined) return `${what} crossed ${label(details.line)} ${text(details.direction, 20)}`;
  return { new: `${what} appeared`, update: `${what} changed`, end: `${what} left` }[details.type] ?? `${kind} ${what}`;
}

/** Return what one sample of a source is. */
export function sampleForm(shape) {
  const sizes = list(shape).filter(isNumber);
  if (isPicture(sizes)) return `picture, ${sizes[1]} × ${sizes[0]}`;
  if (sizes.length === 1) return sizes[0] === 1 ? "1 channel" : `${count(sizes[0])} channels`;
  return sizes.slice(0, 4).join(" × ");
}

export const isPicture = (shape) => list(shape).length === 3 && (shape[2] === 1 || shape[2] === 3);
