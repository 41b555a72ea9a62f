// Looks at the page of a real device in Chromium: node look.mjs URL FOLDER. Each check prints a line of JSON.

import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { createRequire } from "node:module";

const [url, folder] = process.argv.slice(2);
const modules = createRequire(`${process.env.PAGE_MODULES}/package.json`);
const { chromium } = modules("playwright-core");
const axe = readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");
const token = process.env.PAGE_TOKEN;

const VIEWS = {
  overview: "#/", anomaly: "#/pipelines/anomaly", condition: "#/pipelines/condition", entrance: "#/pipelines/entrance",
  "wake-word": "#/pipelines/wake-word", models: "#/models", device: "#/device", events: "#/events", log: "#/log",
};
const DESKTOP = { viewport: { width: 1280, height: 900 }, colorScheme: "light" };
const DARK = { viewport: { width: 1280, height: 900 }, colorScheme: "dark" };
const PHONE = { viewport: { width: 360, height: 740 }, colorScheme: "light", isMobile: true, hasTouch: true };
const PATIENCE = 30_000;

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const checks = [];
const faults = [];
const loaded = new Map();

function check(name, look) {
  checks.push([name, look]);
}

/** Open the page in a browser of its own. `quiet`: what goes wrong on purpose is no fault. */
async function open(options, { login = true, quiet = false, prepare = () => {} } = {}) {
  const context = await browser.newContext(options);
  if (login) assert.equal((await context.request.post(`${url}/api/login`, { data: { token } })).status(), 204);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`)) faults.push(`asked for ${request.url()}`);
  });
  page.on("pageerror", (error) => faults.push(error.stack));
  page.on("console", (message) => {
    if (!quiet && ["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on("response", async (response) => {
    const path = new URL(response.url()).pathname;
    if (path === "/" || path.startsWith("/static/")) loaded.set(path, Number(response.headers()["content-length"] ?? 0));
  });
  await prepare(page);
  await page.goto(`${url}/`);
  return page;
}

async function closed(page) {
  await page.context().close();
}

async function go(page, hash) {
  await page.evaluate((to) => { location.hash = to; }, hash);
}

/** Wait until a view shows what it has of the device. */
async function shown(page, name) {
  await go(page, VIEWS[name]);
  if (name === "overview") await page.locator(".card").nth(3).waitFor();
  else if (name === "models") await page.getByRole("heading", { name: "condition" }).waitFor();
  else if (name === "device") await page.getByRole("heading", { name: "Machine" }).waitFor();
  else if (name === "events") await page.locator(".events li").first().waitFor();
  else if (name === "log") await page.locator(".log li").first().waitFor();
  else await page.locator(".latency tbody tr").first().waitFor();
}

/** Return how many pixels of a canvas are neither empty nor of one colour alone. */
function colours(canvas) {
  return canvas.evaluate((element) => {
    const { data } = element.getContext("2d").getImageData(0, 0, element.width, element.height);
    const found = new Set();
    for (let place = 0; place < data.length; place += 4) if (data[place + 3]) found.add((data[place] << 16) | (data[place + 1] << 8) | data[place + 2]);
    return found.size;
  });
}

async function until(condition, what, patience = PATIENCE) {
  const end = Date.now() + patience;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `waited in vain: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
}

const headline = (page) => page.locator(".headline").first();
const inAll = async (page) => Number((await page.locator("#result + .muted").innerText()).replace(/.*, ([\d,]+) in all/, "$1").replaceAll(",", ""));

check("shows every pipeline with its state, result, rate and delegate", async () => {
  const page = await open(DESKTOP);
  await shown(page, "overview");
  for (const name of ["anomaly", "condition", "entrance", "wake-word"]) {
    const card = page.getByRole("article", { name });
    await card.getByText("running").waitFor();
    await until(async () => /\d\/s/.test(await card.innerText()), `a rate of ${name}`);
    assert.match(await card.innerText(), /cpu/);
    assert.ok((await card.locator(".headline").innerText()).length > 2);
  }
  await page.getByText("messages wait").waitFor();
  await closed(page);
});

check("shows scores with their threshold, channels, latency by stage, drops and the model", async () => {
  const page = await open(DESKTOP);
  await shown(page, "anomaly");
  const chart = page.getByRole("img", { name: /^Scores, last minute: score [\d.]+.*Threshold/ });
  await until(async () => (await colours(chart)) > 10, "a chart");
  await until(async () => (await page.locator(".channels li").count()) === 9, "nine channels");
  assert.ok((await colours(page.locator(".channels canvas").first())) > 2);
  assert.deepEqual((await page.locator(".latency tbody td:first-child").allInnerTexts()).sort(), ["decode", "invoke", "queue", "transform"]);
  await page.getByText("shuttle version 1").waitFor();
  await page.locator(".facts").getByText(/landlock/).waitFor();
  await page.getByRole("heading", { name: "Dropped" }).waitFor();
  await closed(page);
});

check("shows the scores of classes", async () => {
  const page = await open(DESKTOP);
  await shown(page, "condition");
  const bars = page.getByRole("list", { name: "Scores of the last result" });
  await bars.getByText("normal").or(bars.getByText("anomaly")).first().waitFor();
  assert.match(await bars.innerText(), /\d %/);
  await closed(page);
});

check("shows a camera's picture with the boxes that were found", async () => {
  const page = await open(DESKTOP);
  await shown(page, "entrance");
  const picture = page.getByRole("img", { name: /^Newest picture of entrance/ });
  await picture.waitFor();
  assert.ok((await colours(picture)) > 500);
  assert.deepEqual(await picture.evaluate((canvas) => [canvas.width, canvas.height]), [320, 240]);
  await page.getByRole("group", { name: "Found in the picture" }).getByText("face").first().waitFor();
  await closed(page);
});

check("changes as results come, without being loaded again", async () => {
  const page = await open(DESKTOP);
  await shown(page, "anomaly");
  const before = await inAll(page);
  const chart = page.getByRole("img", { name: /^Scores, last minute/ });
  const painted = await chart.evaluate((canvas) => canvas.toDataURL());
  await until(async () => (await inAll(page)) > before + 20, "results");
  assert.notEqual(await chart.evaluate((canvas) => canvas.toDataURL()), painted);
  await closed(page);
});

check("asks for a token, refuses a wrong one, and logs in and out", async () => {
  const page = await open(DESKTOP, { login: false, quiet: true });
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  assert.equal(await page.locator(".card").count(), 0);
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").getByText("not valid").waitFor();
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  await page.locator(".card").first().waitFor();
  assert.equal(await page.evaluate(() => document.cookie), "");
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await closed(page);
});

check("restarts a pipeline by a button", async () => {
  const page = await open(DESKTOP);
  await shown(page, "wake-word");
  await page.getByRole("button", { name: "Restart" }).click();
  const dialog = page.getByRole("dialog", { name: "Restart wake-word?" });
  await dialog.getByRole("button", { name: "Restart" }).click();
  await page.getByText("It starts again.").waitFor();
  await page.locator(".events").getByText("starting").first().waitFor();
  await page.locator(".title").getByText("running").waitFor();
  await closed(page);
});

check("sets a threshold by a button, and shows the new one", async () => {
  const page = await open(DESKTOP);
  await shown(page, "anomaly");
  await page.getByRole("button", { name: "Threshold" }).click();
  await page.getByRole("dialog").getByLabel("Threshold").fill("0.5");
  await page.keyboard.press("Enter");
  await page.getByText("Threshold 0.5", { exact: true }).waitFor();
  await closed(page);
});

check("captures a window by a button, and shows it", async () => {
  const page = await open(DESKTOP);
  await shown(page, "anomaly");
  await page.getByRole("button", { name: "Capture" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Capture" }).click();
  assert.match(await page.getByLabel("Answer of the device").innerText(), /shape/);
  await closed(page);
});

check("explains an answer by a button, with bars or a heat map", async () => {
  const page = await open(DESKTOP);
  await shown(page, "anomaly");
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Explain" }).click();
  await page.getByRole("dialog").getByText("runs of the model").waitFor();
  assert.equal(await page.getByRole("dialog").getByLabel("Contributions").getByRole("listitem").count(), 9);
  await page.screenshot({ path: `${folder}/explain-channels.png` });
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await shown(page, "entrance");
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Explain" }).click();
  await page.getByRole("dialog").getByText("runs of the model").waitFor();
  assert.equal(await page.getByRole("dialog").locator(".heat rect").count(), 64);
  await page.screenshot({ path: `${folder}/explain-pixels.png` });
  await closed(page);
});

check("says what the device says if it refuses a command", async () => {
  const page = await open(DESKTOP, { quiet: true });
  await shown(page, "entrance");
  await page.evaluate(() => {
    globalThis.flood = setInterval(() => fetch("/api/commands/log_level", { method: "POST", body: JSON.stringify({ level: "INFO" }) }), 50);
  });
  await page.waitForTimeout(1000);
  await page.getByRole("button", { name: "Snapshot" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Snapshot" }).click();
  await page.getByRole("dialog").getByRole("alert").getByText("too many commands").waitFor();
  await page.evaluate(() => clearInterval(globalThis.flood));
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await closed(page);
});

check("shows the trial of a new model, promotes it and rolls it back", async () => {
  const page = await open(DESKTOP);
  await shown(page, "models");
  const panel = page.getByRole("region", { name: "condition" });
  await panel.getByText("Update to shuttle version 8").waitFor();
  assert.equal(await panel.locator(".steps [aria-current]").innerText(), "shadow");
  await panel.getByText("Agreement with the old model").waitFor();
  await panel.getByRole("img", { name: /^New model, scores by tenth: / }).waitFor();
  await page.getByRole("group", { name: "Models for clients" }).getByText("okay-nabu").waitFor();
  await shown(page, "condition");
  await page.getByRole("button", { name: "Promote" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Promote" }).click();
  await page.locator(".facts").getByText("shuttle version 8").first().waitFor();
  await page.locator(".steps .now").getByText("good").waitFor();
  await page.getByRole("button", { name: "Roll back" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Roll back" }).click();
  await page.locator(".facts").getByText("shuttle version 7").first().waitFor();
  await closed(page);
});

check("shows all but buttons and the log to those who may only look", async () => {
  const session = { device: "press-07", version: "1", view: true, control: false, login: false, logged_in: false, commands: [], reason: "The device has no token." };
  const page = await open(DESKTOP, { prepare: (one) => one.route("**/api/session", (route) => route.fulfill({ json: session })) });
  await shown(page, "anomaly");
  await page.getByText("To send commands: The device has no token.").waitFor();
  assert.equal(await page.getByRole("button", { name: "Restart" }).count(), 0);
  await go(page, VIEWS.log);
  await page.getByText("The log is for those who may control this device.").waitFor();
  await closed(page);
});

check("shows the proof of a delegate, drops by cause, and an outbox without a connection", async () => {
  const about = { device: "press-07", pipeline: "anomaly", time: new Date().toISOString() };
  const health = {
    ...about, state: "running", reason: "slower than usual", model: "shuttle", version: 3, delegate: "gpu", delegate_share: 0.9, degraded: true,
    placement: { op_share: 0.9, mac_share: 0.99, speed: 3.2, error: 0.001, run_us: 250, device: "Mali-G52", left: { SOFTMAX: 2 }, sandbox: ["seccomp"] },
    results: 7, errors: 0, restarts: 1, failovers: 2, dropped: { gap: 1200, queue: 3, unplugged: 2 }, latency_us: {}, sandbox: [],
  };
  const page = await open(DESKTOP, {
    prepare: async (one) => {
      const real = await (await one.context().request.get(`${url}/api/device`)).json();
      const away = { ...real, reporters: { mqtt: { kind: "mqtt", connected: false, outbox_depth: 4711, waiting: 0, missed: 0 } } };
      await one.route("**/api/device", (route) => route.fulfill({ json: away }));
      await one.route("**/api/stream*", (route) => route.fulfill({ contentType: "text/event-stream", body: `data: ${JSON.stringify({ topic: "health/anomaly", message: health })}\n\n` }));
    },
  });
  await page.getByText("messages wait, no connection").waitFor();
  await page.getByText("4,711").waitFor();
  await go(page, VIEWS.anomaly);
  for (const words of ["Mali-G52", "99.0 %", "3.2 × the CPU", "250 µs", "SOFTMAX × 2", "degraded", "slower than usual", "1,200", "Faults of the source: unplugged 2 ×", "2 ×"]) {
    await page.getByText(words).first().waitFor();
  }
  await go(page, VIEWS.device);
  await page.getByText("not connected").waitFor();
  await closed(page);
});

check("lists events, and finds those that are wanted", async () => {
  const page = await open(DESKTOP);
  await shown(page, "events");
  await page.getByLabel("Pipeline").selectOption("wake-word");
  await page.getByLabel("Contains").fill("heard");
  await until(async () => (await page.locator(".events li").count()) > 0, "keywords");
  for (const words of await page.locator(".events li").allInnerTexts()) assert.match(words, /wake-word\s+heard okay nabu/);
  await closed(page);
});

check("shows the log as it comes", async () => {
  const page = await open(DESKTOP);
  await shown(page, "log");
  await page.evaluate(() => fetch("/api/commands/restart", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ pipeline: "anomaly" }) }));
  await page.locator(".log").getByText(/anomaly: .*running/).first().waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Go on" }).click();
  await closed(page);
});

check("can be used with the keyboard alone", async () => {
  const page = await open(DESKTOP);
  await page.locator(".card").nth(3).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "anomaly");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "anomaly", level: 1 }).waitFor();
  await page.getByRole("button", { name: "Restart" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Restart");
  await closed(page);
});

check("says changes to a screen reader, and gives each chart in words", async () => {
  const page = await open(DESKTOP);
  await shown(page, "wake-word");
  const said = page.locator("[aria-live=polite]");
  await until(async () => (await said.innerText()).length > 5, "an event that is said");
  for (const chart of await page.locator("canvas").all()) assert.match(await chart.getAttribute("aria-label"), /last minute: .*between/);
  await closed(page);
});

check("has no violation of accessibility in light colours", () => accessible(DESKTOP));
check("has no violation of accessibility in dark colours", () => accessible(DARK));
check("has no violation of accessibility on a phone", () => accessible(PHONE));

async function accessible(options) {
  const page = await open(options);
  const found = [];
  for (const name of Object.keys(VIEWS)) {
    await shown(page, name);
    found.push(...(await violations(page)).map((one) => `${name}: ${one}`));
  }
  await shown(page, "anomaly");
  await page.getByRole("button", { name: "Threshold" }).click();
  await page.getByRole("dialog").waitFor();
  found.push(...(await violations(page)).map((one) => `dialog: ${one}`));
  assert.deepEqual(found, []);
  await closed(page);
}

async function violations(page) {
  await page.evaluate(axe);
  const { violations: found } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
  return found.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(" | ")}`);
}

check("is dark where the browser is, and where a person wants it", async () => {
  const ground = (page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g).map(Number)[0]);
  const dark = await open(DARK);
  await shown(dark, "overview");
  assert.ok((await ground(dark)) < 60);
  await closed(dark);
  const page = await open(DESKTOP);
  await shown(page, "overview");
  assert.ok((await ground(page)) > 200);
  await page.getByRole("button", { name: /^Colours/ }).click();
  await page.getByRole("button", { name: /^Colours: light/ }).click();
  await until(async () => (await ground(page)) < 60, "dark colours");
  await page.reload();
  await page.locator(".card").first().waitFor();
  assert.ok((await ground(page)) < 60);
  await closed(page);
});

check("fits 360 pixels without scrolling to the side", async () => {
  const page = await open(PHONE);
  for (const name of Object.keys(VIEWS)) {
    await shown(page, name);
    const [wide, wider] = await page.evaluate(() => [document.documentElement.scrollWidth, [...document.querySelectorAll("main *, header *")]
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll, .log, .out-of-sight, .skip")).map((element) => element.outerHTML.slice(0, 100))]);
    assert.ok(wide <= 360, `${name} is ${wide} pixels wide`);
    assert.deepEqual(wider, [], name);
  }
  await closed(page);
});

check("has fields that phones do not zoom into", async () => {
  const page = await open(PHONE);
  const sizes = () => page.locator("input:visible, select:visible").evaluateAll((fields) => fields.map((field) => parseFloat(getComputedStyle(field).fontSize)));
  for (const name of ["login", "log", "events"]) {
    if (name === "login") await go(page, "#/login");
    else await shown(page, name);
    await page.locator("input:visible").first().waitFor();
    assert.ok((await sizes()).every((size) => size >= 16), `${name}: ${await sizes()}`);
  }
  await closed(page);
});

check("shows names and reasons as text, whatever is in them", async () => {
  const evil = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\u202e\u0000";
  const lines = hostile(evil).map((line) => `data: ${JSON.stringify(line)}\n\n`).join("");
  const page = await open(DESKTOP, {
    quiet: true,
    prepare: (one) => one.route("**/api/stream*", (route) => route.fulfill({ contentType: "text/event-stream", body: lines })),
  });
  await shown(page, "anomaly");
  await page.getByText("<img src=x").first().waitFor();
  for (const name of ["models", "device", "events", "overview", "condition"]) {
    await go(page, VIEWS[name]);
    await page.waitForTimeout(600);
  }
  await page.getByText("messages could not be shown").waitFor();
  assert.equal(await page.locator("main img, main script").count(), 0);
  assert.ok(!(await page.title()).includes("taken"));
  assert.ok(!(await page.locator("body").innerText()).includes("\u202e"));
  await closed(page);
});

/** Return messages such as a device might send that was taken over. */
function hostile(evil) {
  const about = { device: "press-07", pipeline: "anomaly", boot: "b", time: "2030-01-01T00:00:00Z" };
  const odd = [null, 7, evil, [], [[]], {}, { constructor: { name: evil } }, { __proto__: 1, label: { toString: 1 } }];
  const result = (sequence, output) => ({ topic: "result/anomaly", message: { ...about, sequence, output, latency_us: 1, monotonic_ns: sequence * 1e9 } });
  const outputs = [
    { label: evil, score: 0.5, top: [{ label: evil, score: 0.5 }, { label: 3, score: "x" }], abstained: false },
    { detections: [{ label: evil, score: 1, box: [0, 0, 1, 1], zones: [evil, {}] }, { box: "x" }, null], counts: { [evil]: 3, x: evil } },
    { values: { [evil]: 1e308, b: null }, units: { [evil]: evil }, in_range: false, out_of_range: [evil] },
    { anomalous: true, score: 1e999, threshold: evil }, { shares: odd, regions: odd }, { tensors: odd }, ...odd,
    { label: evil, score: 0.5, top: [{ label: evil, score: 0.5 }], abstained: false },
  ];
  const health = { ...about, state: evil, reason: evil, model: evil, version: evil, delegate: evil, degraded: true, dropped: { [evil]: 5, gap: evil },
    latency_us: { decode: { count: 1, p50: evil, p95: {}, p99: null }, [evil.slice(0, 30)]: { count: 2, p50: 1, p95: 2, p99: 3 } },
    sandbox: odd, placement: { op_share: 0.5, left: { [evil]: 2 }, device: evil, sandbox: [evil] } };
  return [
    { topic: "health/anomaly", message: health },
    { topic: "model/anomaly/reported", message: { ...about, model: evil, version: 1, state: evil, reason: evil, delegate: evil, update: { stage: evil, reason: evil, wanted: { model: evil, version: evil }, good: evil, signed_by: [evil, 3], compared: { agreement: evil } } } },
    { topic: `result/${evil}`, message: {} }, { topic: "result/anomaly", message: evil }, { topic: "health/anomaly/x", message: {} },
    ...odd.map((one) => ({ topic: "event/anomaly", message: one })), { topic: "event", message: { event: evil, reason: evil, time: evil, details: { label: evil, type: evil, zone: evil } } },
    ...odd.map((one) => ({ topic: "input/vibration", message: { pipelines: ["anomaly"], values: [odd, one], channels: odd, rate: one, shape: one, source: evil, time: evil } })),
    { topic: "health", message: { ...about, boot: "b", version: evil, pipelines: { anomaly: evil, [evil]: "running", condition: "running" }, reporters: { [evil]: { kind: evil, last_error: evil, deep: { deep: { deep: evil } } } }, accelerators: odd, trust: evil } },
    { topic: 5, message: {} }, { topic: "model", message: {} }, { missed: 3 }, { missed: evil },
    ...outputs.map((output, place) => result(place + 1, output)), { topic: "health/anomaly", message: health },
  ];
}

check("says what each decoder found in words", async () => {
  const page = await open(DESKTOP);
  const said = await page.evaluate(async (outputs) => {
    const { describe } = await import("/static/words.js");
    return outputs.map((output) => describe(output)).map(({ text, alarm }) => (alarm ? `! ${text}` : text));
  }, OUTPUTS.map(([output]) => output));
  assert.deepEqual(said, OUTPUTS.map(([, words]) => words));
  await closed(page);
});

const BOX = [0.1, 0.2, 0.3, 0.4];
const OUTPUTS = [
  [{ label: "cat", score: 0.914, top: [{ label: "cat", score: 0.914 }], abstained: false }, "cat 91 %"],
  [{ label: null, score: 0.3, top: [{ label: "cat", score: 0.3 }], abstained: true }, "unsure: cat 30 %"],
  [{ label: null, score: 0.3, top: [], abstained: true, set: ["cat", "dog"] }, "unsure of cat, dog"],
  [{ values: { level: 3 }, units: {}, in_range: true, intervals: { level: [2.5, 3.5] }, abstained: true }, "level 3 (2.5 to 3.5) (unsure)"],
  [{ anomalous: false, score: 0.0123, threshold: 0.1 }, "Normal, score 0.0123"],
  [{ anomalous: true, score: 4.5, threshold: 0.1 }, "! Anomaly, score 4.5"],
  [{ anomalous: false, score: 1, threshold: null, untrained: true, learned: 0.25 }, "Normal, score 1 (still learning, 25 %)"],
  [{ detections: [{ label: "face", score: 1, box: BOX }], counts: { face: 1, cat: 0 }, zones: { door: { face: 1 } } }, "1 face (1 in door)"],
  [{ poses: [], counts: {}, skeleton: [] }, "nothing found"],
  [{ shares: { road: 0.75, sky: 0.25, car: 0 }, regions: [] }, "road 75 %, sky 25 %"],
  [{ values: { level: 3.14159, flow: null }, units: { level: "m" }, in_range: false, out_of_range: ["flow"] }, "! level 3.14 m, flow – (out of range)"],
  [{ keyword: null, score: 0.02, scores: { alexa: 0.02 } }, "listening 2 %"],
  [{ keyword: "alexa", score: 0.98, scores: { alexa: 0.98 } }, "! heard alexa 98 %"],
  [{ labels: [{ label: "rain", score: 0.6 }, { label: "wind", score: 0.5 }], abstained: false }, "rain 60 %, wind 50 %"],
  [{ label: null, nearest: "idle", distance: 12.5 }, "! unknown, nearest idle"],
  [{ label: "ada", similarity: 0.9, top: [{ label: "ada", score: 0.9 }] }, "ada 90 %"],
  [{ tensors: [{ name: "out", shape: [1, 3], dtype: "float32", values: [1, 2, 3] }] }, "out [1 × 3]"],
  [{ mine: [1, 2] }, '{"mine":[1,2]}'],
];

check("opens no stream in a tab that nobody sees, until somebody does", async () => {
  const asked = [];
  const page = await open(DESKTOP, {
    prepare: async (fresh) => {
      fresh.on("request", (request) => { if (request.url().includes("/api/stream")) asked.push(request.url()); });
      await fresh.addInitScript(() => {
        window.isHidden = true;
        Object.defineProperty(document, "hidden", { get: () => window.isHidden });
      });
    },
  });
  await page.locator(".card").nth(3).waitFor();
  assert.deepEqual(asked, []);
  await page.evaluate(() => {
    window.isHidden = false;
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.locator(".top-right").getByText("live").waitFor();
  await closed(page);
});

/** A proxy in front of the device, below the path /press/. Its connections can be made silent, as by a sleep. */
async function proxy() {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  const server = createServer((from, to) => {
    const headers = { ...from.headers };
    const ask = httpRequest({ hostname, port, method: from.method, path: from.url.replace(/^\/press/, ""), headers: { ...headers, host: `${hostname}:${port}`, ...(headers.origin && { origin: url }) } }, (answer) => {
      to.writeHead(answer.statusCode, answer.headers);
      answer.pipe(to);
      if (from.url.includes("/api/stream")) sockets.add(answer);
    });
    ask.on("error", () => to.destroy());
    to.on("close", () => ask.destroy());
    from.pipe(ask);
  });
  await new Promise((resolve) => { server.listen(0, "127.0.0.1", resolve); });
  return { at: `http://127.0.0.1:${server.address().port}/press/`, silence: () => sockets.forEach((one) => { one.unpipe(); one.resume(); }), streams: sockets, end: () => { server.close(); server.closeAllConnections(); } };
}

check("works below a path of a proxy, and leaves a connection that went silent", async () => {
  const between = await proxy();
  const context = await browser.newContext(DESKTOP);
  assert.equal((await context.request.post(`${between.at}api/login`, { data: { token } })).status(), 204);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(between.at);
  await page.locator(".top-right").getByText("live").waitFor();
  await page.evaluate(() => { location.hash = "#/pipelines/anomaly"; });
  await page.locator(".latency tbody tr").first().waitFor();
  assert.equal(between.streams.size, 1);
  between.silence();
  await until(() => between.streams.size === 2, "a new connection", 2 * PATIENCE);
  const before = await inAll(page);
  await until(async () => (await inAll(page)) > before, "a result");
  await closed(page);
  between.end();
});

check("connects again after the gateway ended, and goes on", async () => {
  const page = await open(DESKTOP, { quiet: true });
  await shown(page, "anomaly");
  await page.locator(".top-right").getByText("live").waitFor();
  process.kill(Number(process.env.PAGE_GATEWAY), "SIGKILL");
  await page.locator(".top-right").getByText(/connecting|locked/).waitFor();
  await until(async () => (await page.getByLabel("Token").count()) > 0 || (await page.locator(".top-right").getByText("live").count()) > 0, "a login or the stream");
  if (await page.getByLabel("Token").count()) { // sessions are the gateway's, and end with it
    await page.getByLabel("Token").fill(token);
    await page.keyboard.press("Enter");
  }
  await page.locator(".top-right").getByText("live").waitFor();
  const before = await inAll(page);
  await until(async () => (await inAll(page)) > before, "a result");
  await closed(page);
});

check("says what to do without JavaScript", async () => {
  const page = await open({ ...DESKTOP, javaScriptEnabled: false });
  assert.match(await page.locator("noscript").innerText(), /needs JavaScript/);
  assert.ok(await page.locator("noscript a").first().isVisible());
  await closed(page);
});

check("asks nothing of other hosts, logs no error, and is under 200 kB", async () => {
  const sum = [...loaded.values()].reduce((all, size) => all + size, 0);
  assert.ok(loaded.size > 10 && sum > 50_000 && sum < 200_000, `${loaded.size} files, ${sum} bytes`);
  assert.deepEqual(faults, []);
});

/** Take the pictures of the documentation. */
async function pictures() {
  for (const [name, view, options, height] of [["page", "overview", DESKTOP, 900], ["page-camera", "entrance", DARK, 900], ["page-models", "models", DESKTOP, 640], ["page-phone", "anomaly", { ...PHONE, deviceScaleFactor: 2 }, 740]]) {
    const page = await open(options);
    await shown(page, view);
    await page.waitForTimeout(12_000);
    await page.screenshot({ path: `${folder}/${name}.png`, clip: { x: 0, y: 0, width: options.viewport.width, height } });
    await closed(page);
  }
}

const wanted = process.argv[4];
if (!wanted) await pictures();
for (const [name, look] of checks.filter(([one]) => !wanted || one.includes(wanted))) {
  const begun = Date.now();
  let problem = "";
  try {
    await look();
  } catch (error) {
    problem = error.stack;
  }
  console.log(JSON.stringify({ name, problem, seconds: Math.round((Date.now() - begun) / 100) / 10 }));
}
await browser.close();
