// Charts on a canvas: curves over the last minute. Their numbers are in a text beside it, for those who cannot see it.

import { h } from "./vendor/preact.js";
import { useLayoutEffect, useRef } from "./vendor/hooks.js";
import { number, text } from "./words.js";
import { SECONDS } from "./state.js";

const COLOURS = 8;
const LEFT = 44;
const BOTTOM = 18;
const TOP = 8;
const SPANS = [10, 20, 30, SECONDS];

/** Return the name of the colour of the curve at this place. */
export const colour = (place) => `--series-${place % COLOURS}`;

/**
 * A chart of curves. `curves`: a Map of `Curve` by name. `limit`: a line across. `low` and `high`: bounds of the
 * axis; by default those of the curves. `plain`: without axes, as on a card.
 */
export function Chart({ name, curves, limit = null, low = null, high = null, plain = false, unit = "" }) {
  const canvas = useRef(null);
  useLayoutEffect(() => {
    if (canvas.current) draw(canvas.current, [...curves.values()], { limit, low, high, plain });
  });
  return h("canvas", { ref: canvas, class: plain ? "chart plain" : "chart", role: "img", "aria-label": summary(name, curves, limit, unit) });
}

function summary(name, curves, limit, unit) {
  const parts = [...curves].slice(0, 8).map(([of, curve]) => {
    const [least, most] = curve.range;
    return `${text(of, 40)} ${number(curve.last)}${unit}, between ${number(least)} and ${number(most)}`;
  });
  const more = limit === null ? "" : ` Threshold ${number(limit)}.`;
  return `${name}, last minute: ${parts.join("; ") || "no values yet"}.${more}`;
}

function draw(canvas, curves, { limit, low, high, plain }) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return;
  const scale = Math.min(window.devicePixelRatio || 1, 3);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const style = getComputedStyle(canvas);
  const of = (property) => style.getPropertyValue(property).trim();
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const drawn = curves.filter((curve) => curve.bins.length);
  if (!drawn.length) return;
  const box = plain ? { x: 1, y: 3, w: width - 4, h: height - 6 } : { x: LEFT, y: TOP, w: width - LEFT - 8, h: height - TOP - BOTTOM };
  const [least, most] = bounds(drawn, limit, low, high);
  const end = Math.max(...drawn.map((curve) => curve.bins.at(-1).at));
  const extent = end - Math.min(...drawn.map((curve) => curve.bins[0].at));
  const seconds = plain ? Math.max(extent, 5) : SPANS.find((each) => each >= extent) ?? SECONDS;
  const x = (at) => box.x + box.w * (1 - (end - at) / seconds);
  const y = (value) => box.y + box.h * (1 - (Math.min(Math.max(value, least), most) - least) / (most - least));
  context.font = `11px ${style.fontFamily}`;
  if (!plain) axes(context, box, { least, most, y, seconds, of });
  if (limit !== null) {
    context.strokeStyle = of("--limit");
    context.setLineDash([4, 3]);
    context.lineWidth = 1;
    line(context, [[box.x, y(limit)], [box.x + box.w, y(limit)]]);
    context.setLineDash([]);
  }
  const gap = Math.max(1, 4 * Math.min(...drawn.map(spacing)));
  drawn.forEach((curve) => paint(context, curve, {
    ink: of(colour(curves.indexOf(curve))), x, y, filled: plain && drawn.length === 1 ? box : null, peaks: limit !== null, gap,
  }));
}

function bounds(curves, limit, low, high) {
  const values = curves.flatMap((curve) => curve.range);
  if (limit !== null) values.push(limit);
  let least = low ?? Math.min(...values);
  let most = high ?? Math.max(...values);
  if (low === null && least > 0 && least < most / 3) least = 0;
  if (!(most > least)) {
    const room = Math.abs(most) / 10 || 1;
    most += room;
    least -= room;
  } else if (high === null) {
    most += (most - least) * 0.06;
  }
  return [least, most];
}

function axes(context, box, { least, most, y, seconds, of }) {
  context.fillStyle = of("--muted");
  context.strokeStyle = of("--grid");
  context.lineWidth = 1;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of ticks(least, most)) {
    const at = Math.round(y(value)) + 0.5;
    line(context, [[box.x, at], [box.x + box.w, at]]);
    context.fillText(number(value), box.x - 6, at);
  }
  context.textBaseline = "alphabetic";
  for (const [share, align] of [[0, "left"], [0.5, "center"], [1, "right"]]) {
    context.textAlign = align;
    const ago = seconds * (1 - share);
    context.fillText(ago ? `−${ago} s` : "now", box.x + box.w * share, box.y + box.h + 14);
  }
}

/** Return round numbers between the bounds, four or so. */
function ticks(least, most) {
  const rough = (most - least) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(least / step) * step; value <= most && found.length < 10; value += step) {
    found.push(Math.abs(value) < step / 1e6 ? 0 : value);
  }
  return found;
}

/** Return the seconds between two values of a curve, on average. */
function spacing({ bins }) {
  return bins.length > 1 ? (bins.at(-1).at - bins[0].at) / (bins.length - 1) : SECONDS;
}

function paint(context, curve, { ink, x, y, filled, peaks, gap }) {
  const { bins } = curve;
  context.strokeStyle = ink;
  context.fillStyle = ink;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  const parts = [];
  for (const bin of bins) {
    const part = parts.at(-1);
    if (part && bin.at - part.at(-1).at <= gap) part.push(bin); // a longer gap is shown as one
    else parts.push([bin]);
  }
  for (const part of parts) {
    context.globalAlpha = 0.18;
    context.beginPath();
    part.forEach((bin, place) => context[place ? "lineTo" : "moveTo"](x(bin.at), y(bin.high)));
    if (filled) {
      context.lineTo(x(part.at(-1).at), filled.y + filled.h);
      context.lineTo(x(part[0].at), filled.y + filled.h);
    } else {
      part.toReversed().forEach((bin) => context.lineTo(x(bin.at), y(bin.low)));
    }
    context.fill();
    context.globalAlpha = 1;
    line(context, part.map((bin) => [x(bin.at), y(peaks ? bin.high : bin.value)]));
    if (part.length === 1) dot(context, x(part[0].at), y(part[0].value), 1.5);
  }
  dot(context, x(bins.at(-1).at), y(bins.at(-1).value), 2.5);
}

function dot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

function line(context, points) {
  context.beginPath();
  points.forEach(([x, y], place) => context[place ? "lineTo" : "moveTo"](x, y));
  context.stroke();
}
