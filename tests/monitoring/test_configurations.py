"""The files that compose mounts: taken by the programs that read them, and at one with rules."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.insight.logs import fields_of
from tests.gateway.finished import finished
from tests.monitoring.tools import DASHBOARDS, DOCKER, MONITORING, load_rules, program, run_promtool

ALERTMANAGER = DOCKER / "alertmanager" / "alertmanager.yml"
ALERTS = load_rules("alert")


def amtool(*words: str) -> str:
    """What amtool prints; fails when it complains."""
    command = [program("amtool", "prometheus-alertmanager"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_promtool_takes_prometheus_configuration(tmp_path: Path) -> None:
    text = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    (tmp_path / "key").write_text("a token")
    there = {"/run/secrets/metrics_key": tmp_path / "key", "/etc/prometheus": MONITORING}
    for mounted, here in there.items():
        text = text.replace(mounted, str(here))
    (tmp_path / "prometheus.yml").write_text(text)
    done = run_promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files" in done.stdout


def test_amtool_takes_alertmanagers_configuration() -> None:
    assert "2 receivers" in amtool("check-config", str(ALERTMANAGER))


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_alert_reaches_the_receiver_of_its_severity(severity: str) -> None:
    config = f"--config.file={ALERTMANAGER}"
    assert amtool("config", "routes", "test", config, f"severity={severity}") == severity


def test_only_alerts_that_there_are_hold_others_back() -> None:
    rules = yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]
    matchers = [one for rule in rules for one in rule["source_matchers"] + rule["target_matchers"]]
    patterns = [re.fullmatch(r'alertname=~?"(.+)"', matcher) for matcher in matchers]
    named = [name for pattern in patterns if pattern for name in alternatives(pattern[1])]
    assert len(patterns) == 2 * len(rules) == len([one for one in patterns if one])
    assert set(named) <= set(ALERTS)


def alternatives(pattern: str) -> list[str]:
    """A|B, and P(A|B) as PA and PB."""
    head, _, tail = pattern.partition("(")
    return [head + one for one in tail.rstrip(")").split("|")] if tail else pattern.split("|")


def test_grafana_has_a_source_of_the_kind_that_dashboards_ask_for() -> None:
    text = (DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    [source] = yaml.safe_load(text)["datasources"]
    for path in DASHBOARDS:
        [variable] = json.loads(path.read_text())["templating"]["list"]
        assert (variable["type"], variable["query"]) == ("datasource", source["type"])


def test_log_pipeline_reads_fields_that_the_gateway_writes() -> None:
    text = (DOCKER / "logs" / "config.alloy").read_text()
    [read, labels] = re.findall(r"(?:expressions|values) = \{(.+)\}", text)
    line = {"time", "level", "event", *fields_of(finished())}
    assert set(re.findall(r"(\w+) =", labels)) < set(re.findall(r"(\w+) =", read)) <= line
