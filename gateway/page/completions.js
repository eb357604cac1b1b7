// Completions of the gateway as they are written: a request in, pieces of text and figures out.
// Knows nothing of the page.

/** What the gateway answered instead of a completion. */
export class Refusal extends Error {
  constructor(status, message, retryAfterS) {
    super(message);
    this.status = status; // 0: it could not be reached
    this.retryAfterS = retryAfterS;
  }
}

/** Headers of every call; without a key the gateway may be open. */
function headersOf(key) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  return headers;
}

async function post(path, key, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST", headers: headersOf(key), body: JSON.stringify(body), signal,
    });
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
  return new Refusal(response.status, message, retryAfter || undefined);
}

/**
 * Stream one completion. Yields {text, id, version}, the last one with {usage, finishReason};
 * throws Refusal, or AbortError when `signal` aborts it.
 */
export async function* stream(key, body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await post("v1/completions", key, asked, signal);
  for await (const event of events(response.body)) {
    if (event.error) throw new Refusal(response.status, event.error.message);
    const choice = event.choices?.[0];
    yield {
      id: event.id, version: event.system_fingerprint ?? event.model, text: choice?.text ?? "",
      finishReason: choice?.finish_reason ?? undefined, usage: event.usage ?? undefined,
    };
  }
}

/** The JSON of each server-sent event, up to [DONE]. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
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

/** Tell what became of a suggestion: shown, accepted or dismissed. A page that can't goes on. */
export function report(key, id, kind, chars) {
  const body = { events: [{ id, kind, chars }] };
  return post("v1/events", key, body).catch(() => {});
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
