// Completions of the gateway as they are written: a request in, pieces of text and figures out.
// Knows nothing of the page.

/** What the gateway answered instead of a completion. */
export class Refusal extends Error {
  constructor(status, message, code, retryAfterS) {
    super(message);
    this.status = status; // 0: it could not be reached; 200: it came in a stream that had begun
    this.code = code;
    this.retryAfterS = retryAfterS;
  }
}

/** Headers of every call; without a key the gateway may be open. */
function headersOf(key) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  return headers;
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The gateway can't be reached: is it running?");
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

async function refusalOf(response) {
  const told = await response.json().catch(() => null);
  const message = told?.error?.message ?? `The gateway answered ${response.status}.`;
  const retryAfter = Number(response.headers.get("Retry-After"));
  return new Refusal(response.status, message, told?.error?.code, retryAfter || undefined);
}

/**
 * Stream one completion. Yields {text, id, version, cache}, the last one with {usage}; throws
 * Refusal, or AbortError when `signal` aborts it.
 */
export async function* stream(key, body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await call("v1/completions", {
    method: "POST", headers: headersOf(key), body: JSON.stringify(asked), signal,
  });
  const cache = response.headers.get("X-Nanotriton-Cache") ?? undefined;
  for await (const event of events(response.body)) {
    if (event.error) throw new Refusal(response.status, event.error.message, event.error.code);
    yield {
      id: event.id, version: event.system_fingerprint.replace(/-unknown$/, ""), cache,
      text: event.choices?.[0]?.text ?? "", usage: event.usage ?? undefined,
    };
  }
}

/** The JSON of each server-sent event, up to [DONE]. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await read(reader);
      if (done) throw new Refusal(0, "The gateway went away in the middle of an answer.");
      const whole = (rest + value).split(/\r?\n\r?\n/);
      rest = whole.pop();
      for (const event of whole) {
        const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trim()).join("\n");
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // leaving early ends the request on the server
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The gateway went away in the middle of an answer.");
  }
}

/**
 * Tell what became of a suggestion: shown, accepted or dismissed. It is sent even when the page is
 * being left; a page that can't tell goes on.
 */
export function report(key, event) {
  const body = JSON.stringify({ events: [event] });
  const options = { method: "POST", headers: headersOf(key), body, keepalive: true };
  return call("v1/events", options).catch(() => {});
}

/** Whether the gateway lets the key in; throws Refusal. */
export async function checkKey(key) {
  await call("v1/models", { headers: headersOf(key) });
}

/** Whether completions are served now, in words. */
export async function readiness() {
  try {
    const response = await fetch("health/ready");
    return response.ok ? "ready" : "not ready: the model doesn't answer";
  } catch {
    return "the gateway can't be reached";
  }
}
