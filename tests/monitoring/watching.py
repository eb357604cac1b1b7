"""A real Prometheus and Alertmanager that watch a real server and gateway, FASTER than in earnest.

They read the files that compose mounts, changed for the test in this alone: targets and paths are
the test's, Alertmanager tells a webhook of the test's, and every duration of rules and
configurations is divided by FASTER (a minute is four seconds), with a scrape each second.
"""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from running import free_ports, wait_until

from tests.monitoring.tools import DOCKER, RULES, program

FASTER = 15
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
READY_TIMEOUT_S = 30.0


class Webhook:
    """Where Alertmanager sends alerts; `told` has them in the order that they came."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told.extend({**one, "receiver": body["receiver"]} for one in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def wait(self, alert: str, timeout_s: float) -> dict[str, Any]:
        """The newest message of an alert that fires, once there is one."""

        def firing() -> list[dict[str, Any]]:
            named = [one for one in self.told if one["labels"]["alertname"] == alert]
            return [one for one in named if one["status"] == "firing"]

        wait_until(lambda: bool(firing()), timeout_s)
        return firing()[-1]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Watch:
    """A running Prometheus, and what its Alertmanager told."""

    url: str
    webhook: Webhook

    def values(self, query: str) -> list[float]:
        """What a query brings now, one number for each series."""
        with httpx.Client(base_url=self.url, trust_env=False) as http:
            answer = http.get("/api/v1/query", params={"query": query}).raise_for_status()
        return [float(one["value"][1]) for one in answer.json()["data"]["result"]]


@contextmanager
def watching(folder: Path, targets: dict[str, list[str]]) -> Iterator[Watch]:
    """Watch these targets by job, and this machine's disks."""
    prometheus_port, alertmanager_port, blackbox_port, node_port = free_ports(4)
    targets = {**targets, "node": [f"127.0.0.1:{node_port}"]}
    webhook = Webhook()
    with ExitStack() as stack:
        stack.callback(webhook.close)
        _write_alertmanager_config(folder, webhook.url)
        _write_prometheus_config(folder, targets, alertmanager_port, blackbox_port)
        stack.enter_context(running(_alertmanager(folder, alertmanager_port)))
        stack.enter_context(running(_blackbox(blackbox_port)))
        stack.enter_context(running(_node(node_port)))
        stack.enter_context(running(_prometheus(folder, prometheus_port)))
        url = f"http://127.0.0.1:{prometheus_port}"
        wait_until(lambda: _answers(f"{url}/-/ready"), READY_TIMEOUT_S)
        yield Watch(url, webhook)


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    """A program for as long as the block lasts."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
    finally:
        process.terminate()
        process.wait(20)


def faster(text: str) -> str:
    """Every duration in a text divided by FASTER; those in names, such as rate5m, stay."""

    def shorten(found: re.Match[str]) -> str:
        return f"{max(1, round(int(found[1]) * UNITS_S[found[2]] / FASTER))}s"

    return re.sub(r"\b(\d+)([smhd])\b", shorten, text)


def _write_prometheus_config(
    folder: Path, targets: dict[str, list[str]], alertmanager_port: int, blackbox_port: int
) -> None:
    (folder / "rules").mkdir()
    for path in RULES:
        (folder / "rules" / path.name).write_text(faster(path.read_text()))
    config = yaml.safe_load(faster((DOCKER / "prometheus" / "prometheus.yml").read_text()))
    config["rule_files"] = [str(folder / "rules" / "*.yaml")]
    [alertmanager] = config["alerting"]["alertmanagers"]
    alertmanager["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job.pop("authorization", None)
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
        for rule in job.get("relabel_configs", ()):
            if "replacement" in rule:
                rule["replacement"] = f"127.0.0.1:{blackbox_port}"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))


def _write_alertmanager_config(folder: Path, webhook_url: str) -> None:
    config = yaml.safe_load(faster((DOCKER / "alertmanager" / "alertmanager.yml").read_text()))
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": webhook_url}]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))


def _prometheus(folder: Path, port: int) -> list[str]:
    return [
        program("prometheus", "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]


def _alertmanager(folder: Path, port: int) -> list[str]:
    return [
        program("prometheus-alertmanager", "prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]


def _blackbox(port: int) -> list[str]:
    return [
        program("prometheus-blackbox-exporter", "prometheus-blackbox-exporter"),
        f"--config.file={DOCKER / 'prometheus' / 'blackbox.yml'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]


def _node(port: int) -> list[str]:
    return [
        program("prometheus-node-exporter", "prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--collector.disable-defaults",
        "--collector.filesystem",
        "--log.level=error",
    ]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
