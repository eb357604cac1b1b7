"""What the four dashboards show: titles, units and PromQL, nothing of Grafana's JSON.

Units are Grafana's names. RATE stands for Grafana's own choice of a range, at least four scrapes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

RATE = "$__rate_interval"
GATEWAY = "nanotriton_gateway"
ENGINE = "nanotriton"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `queries` by their legend, in which {{label}} stands for a label's value."""

    title: str
    unit: str
    queries: Mapping[str, str]
    is_number: bool = False  # the newest value, large, instead of lines


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; `name` is that of its file, and its panels stand three in a row."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", labels: str = "") -> str:
    """A counter's growth a second, all of it or by labels."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{labels}}}[{RATE}]))".replace("{}", "")


def quantiles(metric: str, by: str = "") -> dict[str, str]:
    """The median and two upper quantiles of a histogram of seconds."""
    grouping, label = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    buckets = f"sum by ({grouping}) (rate({metric}_seconds_bucket[{RATE}]))"
    return {
        f"p{share}{label}": f"histogram_quantile({share / 100:g}, {buckets})"
        for share in (50, 95, 99)
    }


def number(title: str, unit: str, query: str) -> Panel:
    """A panel that shows one newest value."""
    return Panel(title, unit, {"": query}, is_number=True)


def by_label(title: str, unit: str, label: str, query: str) -> Panel:
    """Lines that a label tells apart."""
    return Panel(title, unit, {f"{{{{{label}}}}}": query})


def _service() -> Iterable[Panel]:
    yield number("Requests a second", "reqps", "sum(nanotriton:asked_requests:rate5m)")
    yield number("Failed, 5 minutes", "percentunit", "nanotriton:error_ratio:rate5m")
    yield number("First text, p95", "s", "nanotriton:first_text_seconds:p95_5m")
    yield by_label(
        "How requests end", "reqps", "outcome", rate(f"{GATEWAY}_requests_total", "outcome")
    )
    yield Panel("First text", "s", quantiles(f"{GATEWAY}_time_to_first_text"))
    yield Panel("Whole answers", "s", quantiles(f"{GATEWAY}_request"))
    yield Panel("Between two tokens", "s", quantiles(f"{GATEWAY}_inter_token"))
    yield Panel(
        "Requests now",
        "short",
        {
            "under way": f"sum({GATEWAY}_active_requests)",
            "at Triton": f"sum({GATEWAY}_queue_running)",
            "waiting": f"sum({GATEWAY}_queue_waiting)",
        },
    )
    yield by_label("Errors told", "reqps", "type", rate(f"{GATEWAY}_errors_total", "type"))
    lookups = f"{GATEWAY}_cache_lookups_total"
    hits, looks = rate(lookups, "cache", 'result="hit"'), rate(lookups, "cache")
    yield by_label("Answered by a cache", "percentunit", "cache", f"{hits} / {looks}")
    yield Panel("Answers of a cache", "s", quantiles(f"{GATEWAY}_cached_request"))
    yield by_label("Suggestions", "reqps", "kind", rate(f"{GATEWAY}_events_total", "kind"))
    versions = rate(f"{GATEWAY}_requests_total", "route, model, version", 'route!="none"')
    yield Panel("Requests by version", "reqps", {"{{route}} {{model}}@{{version}}": versions})
    closed = f'{GATEWAY}_breaker_state{{{GATEWAY}_breaker_state="closed"}}'
    yield by_label("Breakers not closed", "short", "route", f"sum by (route) (1 - {closed})")
    yield by_label("Targets that answer", "short", "job", 'sum by (job) (up{job=~"nanotriton-.*"})')
    memory = f"{GATEWAY}_process_resident_memory_bytes"
    yield by_label("Memory of gateways", "bytes", "instance", memory)
    waiting = f"{GATEWAY}_ledger_bytes_waiting"
    yield by_label("Journal not in the database", "bytes", "instance", waiting)
    processor = f"rate({GATEWAY}_process_cpu_seconds_total[{RATE}])"
    yield by_label("Processors of gateways", "short", "instance", processor)


def _engine() -> Iterable[Panel]:
    yield Panel(
        "Versions served",
        "short",
        {"{{version}} {{precision}} {{checkpoint}}": f"{ENGINE}_model_info"},
        is_number=True,
    )
    yield number("Slots taken", "percentunit", "avg(nanotriton:slots_busy:ratio)")
    yield number(
        "Engine restarts, a day", "short", f"sum(increase({ENGINE}_engine_restarts_total[1d]))"
    )
    yield Panel(
        "Requests in the engine",
        "short",
        {
            "running": f"sum({ENGINE}_requests_running)",
            "waiting": f"sum({ENGINE}_requests_waiting)",
            "slots": f"sum({ENGINE}_kv_slots)",
        },
    )
    yield by_label("Tokens a second", "short", "kind", rate(f"{ENGINE}_tokens_total", "kind"))
    yield by_label(
        "How requests end", "reqps", "outcome", rate(f"{ENGINE}_requests_total", "outcome")
    )
    yield Panel("Waiting for a slot", "s", quantiles(f"{ENGINE}_queue"))
    yield Panel("First token", "s", quantiles(f"{ENGINE}_time_to_first_token"))
    yield Panel("Between two tokens", "s", quantiles(f"{ENGINE}_inter_token"))
    steps = rate(f"{ENGINE}_step_seconds_count", "kind")
    mean = f"{rate(f'{ENGINE}_step_seconds_sum', 'kind')} / {steps}"
    yield by_label("A step's mean time", "s", "kind", mean)
    yield by_label("Steps a second", "short", "kind", steps)
    yield by_label("Steps by graph", "short", "graph", rate(f"{ENGINE}_graph_steps_total", "graph"))
    yield number(
        "Prompt tokens found in the slots", "percentunit", "nanotriton:prefix_hit_ratio:rate15m"
    )
    yield Panel(
        "The prefix cache",
        "short",
        {
            "tokens looked up": rate(f"{ENGINE}_prefix_lookup_tokens_total"),
            "found": rate(f"{ENGINE}_prefix_hit_tokens_total"),
            "texts forgotten": rate(f"{ENGINE}_prefix_evictions_total"),
        },
    )
    yield Panel(
        "Speculation",
        "short",
        {
            "tokens guessed": rate(f"{ENGINE}_speculation_drafted_total"),
            "right": rate(f"{ENGINE}_speculation_accepted_total"),
        },
    )
    yield by_label(
        "Tokens held", "short", "instance", f"sum by (instance) ({ENGINE}_kv_tokens_used)"
    )
    yield by_label("KV cache", "bytes", "instance", f"sum by (instance) ({ENGINE}_kv_cache_bytes)")
    restarts = f"sum by (reason) ({ENGINE}_engine_restarts_total)"
    yield by_label("Engine restarts", "short", "reason", restarts)


def _cost() -> Iterable[Panel]:
    """In the price table's currency, which Prometheus doesn't know."""
    cost, tokens = f"{GATEWAY}_cost_total", f"{GATEWAY}_tokens_total"
    yield number("Cost of an hour", "short", "sum(nanotriton:cost_per_hour:rate1h)")
    yield number("Cost of 24 hours", "short", f"sum(increase({cost}[24h]))")
    accepted = f'sum(increase({GATEWAY}_events_total{{kind="accepted"}}[24h]))'
    yield number(
        "Cost of an accepted suggestion", "short", f"sum(increase({cost}[24h])) / {accepted}"
    )
    hourly = f"3600 * {rate(cost, 'route, version')}"
    yield Panel("Cost an hour by version", "short", {"{{route}} @{{version}}": hourly})
    written = rate(tokens, labels='kind="completion"')
    million = f"1e6 * {rate(cost)} / {written}"
    yield Panel("Cost of a million written tokens", "short", {"all versions": million})
    yield by_label("Tokens paid for", "short", "kind", rate(tokens, "kind"))
    wasted = f"{GATEWAY}_wasted_tokens_total"
    yield by_label("Tokens nobody read", "short", "outcome", rate(wasted, "outcome"))
    yield Panel(
        "Share of written tokens nobody read",
        "percentunit",
        {"wasted": f"{rate(wasted)} / {written}"},
    )
    yield by_label(
        "Tokens saved by caches", "short", "cache", rate(f"{GATEWAY}_cached_tokens_total", "cache")
    )
    shown = rate(f"{GATEWAY}_events_total", labels='kind="shown"')
    kept = rate(f"{GATEWAY}_events_total", labels='kind="accepted"')
    yield Panel("Suggestions accepted", "percentunit", {"of those shown": f"{kept} / {shown}"})
    warnings = rate(f"{GATEWAY}_budget_warnings_total")
    yield Panel("Answers over a soft budget", "reqps", {"warned": warnings})
    usual = "max_over_time(nanotriton:cost_per_hour:rate1h[7d])"
    yield Panel(
        "An hour against the week's dearest",
        "short",
        {"this hour": "nanotriton:cost_per_hour:rate1h", "the dearest": usual},
    )


def _slo() -> Iterable[Panel]:
    yield number(
        "Answered, 30 days",
        "percentunit",
        "1 - 0.001 * (1 - nanotriton:error_budget_left:ratio30d)",
    )
    yield number("Error budget left", "percentunit", "nanotriton:error_budget_left:ratio30d")
    yield number(
        "Spent how many times too fast, 1 hour", "short", "nanotriton:error_ratio:rate1h / 0.001"
    )
    windows = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
    burns = {window: f"nanotriton:error_ratio:rate{window} / 0.001" for window in windows}
    yield Panel("Budget spent how many times too fast", "short", burns)
    yield Panel(
        "Error budget left", "percentunit", {"of 30 days": "nanotriton:error_budget_left:ratio30d"}
    )
    alerts = 'count by (alertname) (ALERTS{alertname=~"Nanotriton.*",alertstate="firing"})'
    yield by_label("Alerts", "short", "alertname", alerts)
    for title, metric, seconds in (
        ("First texts within 1 s", "time_to_first_text", 1.0),
        ("Answers within 5 s", "request", 5.0),
    ):
        name = f"{GATEWAY}_{metric}_seconds"
        within = rate(f"{name}_bucket", labels=f'le="{seconds}"')
        yield Panel(title, "percentunit", {"share": f"{within} / {rate(f'{name}_count')}"})
    yield Panel(
        "p95 against its objective",
        "s",
        {
            "first text, 1 s": "nanotriton:first_text_seconds:p95_5m",
            "whole answer, 5 s": "nanotriton:request_seconds:p95_5m",
        },
    )
    yield by_label("Failed by pool", "percentunit", "pool", "nanotriton:pool_error_ratio:rate15m")
    yield by_label(
        "First text by pool, p95", "s", "pool", "nanotriton:pool_first_text_seconds:p95_15m"
    )
    yield by_label("Requests by pool", "reqps", "pool", "nanotriton:pool_requests:rate15m")


BOARDS = (
    Board("service", "nanotriton: service", tuple(_service())),
    Board("engine", "nanotriton: engine", tuple(_engine())),
    Board("cost", "nanotriton: cost", tuple(_cost())),
    Board("slo", "nanotriton: objectives", tuple(_slo())),
)
