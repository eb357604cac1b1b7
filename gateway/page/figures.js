// What suggestions took and cost, as the page shows it. Knows nothing of the gateway.

const find = (id) => document.getElementById(id);

/** The figures of a session; a Clock for each suggestion. */
export class Figures {
  constructor() {
    this.totals = { shown: 0, accepted: 0, tokens: 0, cost: 0 };
  }

  /** One more suggestion that was `shown` or `accepted`. */
  count(kind) {
    find(`num-${kind}`).textContent = ++this.totals[kind];
  }

  /** A suggestion that is asked for now. */
  begin() {
    return { begun: performance.now(), first: undefined };
  }

  /** Its first text is there. */
  showFirst(clock) {
    clock.first = performance.now();
    find("ttft").textContent = milliseconds(clock.first - clock.begun);
  }

  /** It is whole; one that is given up is never, and what it used stands in the ledger alone. */
  showWhole(clock, { usage, version, cache }) {
    const { prompt_tokens, completion_tokens, cost } = usage;
    const now = performance.now();
    const writing = (now - (clock.first ?? now)) / 1000;
    const isWritten = !cache && completion_tokens > 1 && writing > 0;
    find("total").textContent = milliseconds(now - clock.begun);
    find("tokens").textContent = `${prompt_tokens} + ${completion_tokens}`;
    find("speed").textContent = isWritten
      ? `${((completion_tokens - 1) / writing).toFixed(0)} tokens/s` : "–";
    find("served").textContent = `version ${version}${cache ? ", cache" : ""}`;
    this.totals.tokens += prompt_tokens + completion_tokens;
    find("num-tokens").textContent = this.totals.tokens;
    if (cost === undefined) return;
    this.totals.cost += cost;
    find("cost").textContent = money(cost);
    find("total-cost").textContent = money(this.totals.cost);
  }
}

function milliseconds(value) { return `${value.toFixed(0)} ms`; }

/** In the price table's currency, to the millionths that the ledger counts in. */
function money(value) { return value.toFixed(6); }
