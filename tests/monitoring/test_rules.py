"""Rules: promtool's own checks, and that no alert lacks a test, a section or a real metric."""

import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from running import ROOT

from gateway.insight.metrics import Metrics
from nanotriton.engine import exposition
from tests.monitoring.tools import RULES, load_queries, load_rules, run_promtool

TESTS = sorted(Path(__file__).parent.glob("*rules_test.yaml"))
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
ALERTS, RECORDED = load_rules("alert"), load_rules("record")
# What is not ours: Prometheus' own, blackbox_exporter's, node_exporter's, the kubelet's.
FOREIGN = {
    *("up", "ALERTS"),
    "probe_ssl_earliest_cert_expiry",
    *("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
    *("kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"),
}
HISTOGRAM = re.compile(r"(_seconds)(?:_bucket|_count|_sum)$")


def exported_names() -> set[str]:
    """Names on the pages of the server and the gateway, a histogram's without its suffix."""
    engine = (*exposition.GAUGES, *exposition.COUNTERS, *exposition.ENGINE_COUNTERS)
    families = list(Metrics().registry.collect())
    return {
        *(f"{exposition.PREFIX}{name}" for name in (*engine, exposition.MODEL_INFO)),
        *(f"{one.name}_total" if one.type == "counter" else one.name for one in families),
    }


def selected_names(query: str) -> set[str]:
    """The metrics that a query reads, a histogram's without its suffix."""
    found: set[str] = set()

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(HISTOGRAM.sub(r"\1", node.name))

    promql_parser.walk(promql_parser.parse(query), note)
    return found


def failures_with(expr: str, folder: Path) -> str:
    """What promtool finds wrong when every alert's expression is this one, which reads nothing."""
    alerts = [{**alert, "expr": expr, "annotations": {}} for alert in ALERTS.values()]
    rules = folder / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": alerts}]}))
    files = [folder / path.name for path in TESTS]
    for path, file in zip(TESTS, files, strict=True):
        tests = {**yaml.safe_load(path.read_text()), "rule_files": [str(rules)]}
        for one in tests["tests"]:
            del one["input_series"]
        file.write_text(yaml.safe_dump(tests))
    done = run_promtool("test", "rules", *files)
    assert done.returncode == 1
    return done.stdout + done.stderr


def test_promtool_takes_the_rules() -> None:
    done = run_promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_and_stay_silent_where_they_should() -> None:
    done = run_promtool("test", "rules", *TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "expr", ["vector(1)", "vector(0) > 1"], ids=["always fires", "never fires"]
)
def test_an_alert_that_always_or_never_fires_would_be_noticed(expr: str, tmp_path: Path) -> None:
    told = failures_with(expr, tmp_path)
    unnoticed = [name for name in ALERTS if not is_looked_at(name, told)]
    assert not unnoticed


def is_looked_at(alert: str, told: str) -> bool:
    """Whether a failed expectation names the alert, itself or by a pattern."""
    patterns = re.findall(r'alertname=~?\\?"([^"\\]+)\\?"', told)
    return any(re.fullmatch(pattern, alert) for pattern in patterns)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_what_happened_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
    assert f"\n### {name}\n" in RUNBOOKS


def test_runbooks_tell_of_no_alert_that_is_gone() -> None:
    assert re.findall(r"^### (Nanotriton\w+)$", RUNBOOKS, re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_labels_in_a_description_are_labels_of_the_alert(name: str) -> None:
    said = set(re.findall(r"\$labels\.(\w+)", ALERTS[name]["annotations"]["description"]))
    expected = [
        line
        for path in TESTS
        for line in path.read_text().splitlines()
        if f'ALERTS{{alertname="{name}"' in line and "severity" in line
    ]
    assert said <= {label for line in expected for label in re.findall(r"(\w+)=", line)}


@pytest.mark.parametrize(
    "query",
    [
        *(pytest.param(rule["expr"], id=name) for name, rule in (ALERTS | RECORDED).items()),
        *(pytest.param(query, id=name) for name, query in load_queries().items()),
    ],
)
def test_query_reads_only_what_somebody_exports(query: str) -> None:
    known = exported_names() | set(RECORDED) | FOREIGN
    assert selected_names(query.replace("$__rate_interval", "1m")) <= known
