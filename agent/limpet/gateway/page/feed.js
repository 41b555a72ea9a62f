// The network: the stream of messages, requests, and whether this browser may do more than look.

import { text } from "./words.js";

const HIDDEN_SECONDS = 30;
const RETRY_SECONDS = 3;
const SILENT_SECONDS = 30;

/** A request that the device refused, or did not answer. `status` is 0 if there was no answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return the JSON of an answer. `Refused`. */
export async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "The device does not answer.");
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, text(body?.error) || `The device refused this (status ${answer.status}).`);
  return body;
}

/** Send JSON. Return the answer's JSON. `Refused`. */
export function post(path, value) {
  return request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
}

/**
 * A stream of the device's messages, for as long as the page can be seen. `take(topic, message)` gets each one,
 * `missed(count)` how many were left out, and `changed(state, reason)` says "live", "connecting" or "refused".
 * A browser that slept, or changed its network, does not notice that a connection is dead. So silence ends it.
 */
export class Stream {
  #kinds;
  #on;
  #source = null;
  #timer = 0;
  #silence = 0;
  #closed = false;

  constructor(kinds, on) {
    this.#kinds = kinds;
    this.#on = on;
    document.addEventListener("visibilitychange", this.#seen);
    if (!document.hidden) this.#open(); // a browser has six connections to a device, for all its tabs
  }

  close() {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#seen);
    this.#stop();
  }

  #seen = () => {
    clearTimeout(this.#timer);
    if (!document.hidden) {
      if (!this.#source) this.#open();
    } else {
      this.#timer = setTimeout(() => this.#stop(), HIDDEN_SECONDS * 1000);
    }
  };

  #stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = null;
  }

  #open() {
    this.#stop();
    if (this.#closed) return;
    this.#on.changed("connecting", "");
    const query = new URLSearchParams(this.#kinds.map((kind) => ["kind", kind]));
    const source = new EventSource(`api/stream?${query}`);
    this.#source = source;
    this.#heard();
    source.onopen = () => {
      this.#heard();
      this.#on.changed("live", "");
    };
    source.onerror = () => this.#failed(source);
    source.onmessage = this.#take;
    source.addEventListener("pulse", () => this.#heard());
  }

  #heard() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#open(), SILENT_SECONDS * 1000);
  }

  #take = (event) => {
    this.#heard();
    let found;
    try {
      found = JSON.parse(event.data);
    } catch {
      return;
    }
    if (typeof found?.missed === "number") this.#on.missed(found.missed);
    else if (found?.topic) this.#on.take(found.topic, found.message);
  };

  async #failed(source) {
    if (source !== this.#source) return;
    this.#stop();
    let reason = "The device does not answer. Trying again.";
    try {
      await request("api/device");
      reason = "The stream ended. Trying again.";
    } catch (error) {
      reason = error.message;
      if (error.status === 401 || error.status === 403) {
        this.#on.changed("refused", reason);
        return;
      }
    }
    this.#on.changed("connecting", reason);
    this.#timer = setTimeout(() => this.#open(), RETRY_SECONDS * 1000);
  }
}
