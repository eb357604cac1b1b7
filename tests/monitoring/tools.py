"""Where the rules and dashboards lie, and the programs that judge them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from running import ROOT

DOCKER = ROOT / "docker"
MONITORING = ROOT / "helm" / "nanotriton" / "monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yaml"))
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))


def program(name: str, package: str) -> str:
    """A program's path; fails with what to install."""
    found = shutil.which(name)
    assert found, f"{name} is missing: install it with apt-get install {package}"
    return found


def run_promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """What promtool says, and how it ended."""
    command = [program("promtool", "prometheus"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def load_rules(kind: str) -> dict[str, dict[str, Any]]:
    """All rules with a key `kind` ("alert" or "record"), by its value."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def load_queries() -> dict[str, str]:
    """The queries of every dashboard, by "dashboard: panel, number"."""
    found = {}
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for number, target in enumerate(panel.get("targets", ())):
                found[f"{path.stem}: {panel['title']}, {number}"] = target["expr"]
    return found
