"""Alerts of a real Prometheus about a real engine, by way of Alertmanager; and what panels show."""

import math
import os
import signal
from pathlib import Path

import httpx
import pytest
from running import RunningServer, free_ports, wait_until

from monitoring.panels import BOARDS, RATE, Board
from monitoring.pictures import NoAnswer, draw_board
from tests.monitoring.conftest import CERTIFICATE_DAYS
from tests.monitoring.watching import Watch


def is_ready(server: RunningServer) -> bool:
    """What Triton says of itself."""
    url = f"http://127.0.0.1:{server.http_port}/v2/health/ready"
    return httpx.get(url, trust_env=False).status_code == 200


def test_killed_engine_reaches_the_webhook(watch: Watch, fragile_server: RunningServer) -> None:
    wait_until(lambda: sum(watch.values("increase(nanotriton_requests_total[4s])")) > 0, 20)
    assert watch.values("nanotriton_engine_restarts_total") == [0, 0]
    os.kill(fragile_server.engine_pid, signal.SIGKILL)
    alert = watch.webhook.wait("NanotritonEngineRestarted", 30)

    assert alert["receiver"] == "ticket"
    assert alert["labels"]["reason"] == "died"
    assert "died and was started again" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == "docs/runbooks.md#nanotritonenginerestarted"


def test_engine_that_stands_still_is_told_while_triton_says_ready(
    watch: Watch, fragile_server: RunningServer
) -> None:
    engine = fragile_server.engine_pid
    watch.webhook.told.clear()
    os.kill(engine, signal.SIGSTOP)
    try:
        alert = watch.webhook.wait("NanotritonEngineSilent", 30)
        assert is_ready(fragile_server)
        assert watch.values(f'up{{instance="{alert["labels"]["instance"]}"}}') == [1]
    finally:
        os.kill(engine, signal.SIGCONT)

    assert alert["receiver"] == "page"
    silent = 'ALERTS{alertname="NanotritonEngineSilent"}'
    wait_until(lambda: not watch.values(silent), 30)


def test_server_that_is_not_there_is_told(watch: Watch) -> None:
    alert = watch.webhook.wait("NanotritonTargetDown", 30)
    assert alert["labels"]["job"] == "nanotriton-server"


def test_exporters_tell_of_certificate_and_disks(watch: Watch) -> None:
    left = 'probe_ssl_earliest_cert_expiry{job="nanotriton-tls"} - time()'
    wait_until(lambda: bool(watch.values(left)), 20)
    assert watch.values(left)[0] == pytest.approx(CERTIFICATE_DAYS * 86400, abs=3600)
    shares = watch.values("node_filesystem_avail_bytes / node_filesystem_size_bytes")
    assert [one for one in shares if 0 <= one <= 1]


@pytest.mark.parametrize("board", BOARDS, ids=[board.name for board in BOARDS])
def test_every_query_of_a_dashboard_brings_data(watch: Watch, board: Board) -> None:
    def silent() -> list[str]:
        return [
            f"{panel.title}: {query}"
            for panel in board.panels
            for query in panel.queries.values()
            if all(map(math.isnan, watch.values(query.replace(RATE, "20s"))))
        ]

    wait_until(lambda: not silent(), 40)


def test_dashboard_can_be_drawn(watch: Watch, tmp_path: Path) -> None:
    draw_board(BOARDS[-1], watch.url, 1, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [f"{BOARDS[-1].name}.png"]


def test_prometheus_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(NoAnswer, match=f"Prometheus at {url}/? refuses"):
        draw_board(BOARDS[-1], url, 1, tmp_path)
