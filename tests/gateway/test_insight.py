"""/metrics, /stats, the log and traces of a real gateway process."""

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from running import RunningServer, wait_until

from benchmarks.timing.collector import Collector
from tests.gateway.gateways import RunningGateway, running_gateway
from tests.gateway.keyed import bearer

PROMPT = "def secret_of_ours("
REQUESTS = "nanotriton_gateway_requests_total"


def counted(gateway: RunningGateway, name: str) -> float:
    """The sum of a metric's samples."""
    with gateway.http() as http:
        families = text_string_to_metric_families(http.get("/metrics").text)
    return sum(one.value for family in families for one in family.samples if one.name == name)


def test_requests_are_counted_and_timed(gateway: RunningGateway) -> None:
    before = counted(gateway, REQUESTS)
    tokens = counted(gateway, "nanotriton_gateway_tokens_total")
    usage = gateway.complete(prompt=PROMPT, temperature=0).json()["usage"]
    assert counted(gateway, REQUESTS) == before + 1
    assert counted(gateway, "nanotriton_gateway_tokens_total") == tokens + usage["total_tokens"]
    with gateway.http() as http:
        stats = http.get("/stats").json()
    assert stats["latency"]["first_text_s"]["p50"] > 0
    assert stats["connections"]["open"] >= 1
    assert "stable/nanotriton/1" in stats["versions"]


def test_errors_that_callers_are_told_are_counted(gateway: RunningGateway) -> None:
    before = counted(gateway, "nanotriton_gateway_errors_total")
    assert gateway.post(b"{").status_code == 400
    assert gateway.complete(top_k=-1).status_code == 400
    assert gateway.complete(prompt="a " * 3000).status_code == 400  # the engine's refusal
    assert counted(gateway, "nanotriton_gateway_errors_total") == before + 3


def test_openmetrics_is_there_for_who_asks(gateway: RunningGateway) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    with gateway.http(headers=accept) as http:
        answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/metrics", "/stats"])
def test_insight_is_not_public(server: RunningServer, tmp_path: Path, path: str) -> None:
    forwarded = {"x-forwarded-for": "203.0.113.9"}  # as a proxy says whom it asks for
    with running_gateway(server, tmp_path, "--host", "127.0.0.1") as closed, closed.http() as http:
        assert http.get(path).status_code == 200
        assert http.get(path, headers=forwarded).status_code == 401


def test_insight_is_for_admins_and_scrapers_alone_where_the_operator_says_so(
    server: RunningServer, tmp_path: Path
) -> None:
    file, token = tmp_path / "token", "of a scraper, long enough to be good"
    file.write_text(f"{token}\n")
    words = ("--insight", "admin", "--insight-token-file", str(file))
    with running_gateway(server, tmp_path, *words) as closed, closed.http() as http:
        assert http.get("/metrics").status_code == 401
        assert http.get("/metrics", headers=bearer(f"{token}s")).status_code == 401
        assert http.get("/metrics", headers=bearer(token)).status_code == 200
        assert http.get("/v1/models", headers=bearer(token)).status_code == 401
    assert token not in closed.log()


def test_log_has_one_json_line_for_each_request_and_no_prompt(gateway: RunningGateway) -> None:
    answer = gateway.complete(prompt=PROMPT)
    lines = [json.loads(line) for line in gateway.log().splitlines()]
    (told,) = [one for one in lines if one.get("request_id") == answer.json()["id"]]
    assert (told["outcome"], told["route"], told["level"]) == ("ok", "stable", "info")
    assert "secret_of_ours" not in gateway.log()


def test_trace_and_prompt_where_the_operator_asks(server: RunningServer, tmp_path: Path) -> None:
    parent = {"traceparent": f"00-{'d' * 32}-{'2' * 16}-01"}
    with Collector() as collector:
        words = ("--open", "--log-prompts", "--trace-url", collector.url)
        with running_gateway(server, tmp_path, *words) as gateway:
            with gateway.http(headers=parent) as http:
                body = {"prompt": PROMPT, "max_tokens": 4, "stream": True}
                assert http.post("/v1/completions", json=body).status_code == 200
            assert gateway.stop() == 0  # what is left is sent
            assert PROMPT in gateway.log()
        wait_until(lambda: {"completion", "upstream"} <= {*collector.trace("d" * 32)}, 10)
        collector.shutdown()
