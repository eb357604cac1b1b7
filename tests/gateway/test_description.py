"""The OpenAPI description is true, and people can read it without any other site."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from running import RunningServer

from gateway.messages import Role
from tests.gateway.browser import launch
from tests.gateway.gateways import RunningGateway, error_of
from tests.gateway.keyed import KeyedGateway, bearer, keyed_gateway


@pytest.fixture(scope="module")
def closed(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeyedGateway]:
    """A gateway that asks for keys."""
    with keyed_gateway(server, tmp_path_factory.mktemp("described")) as running:
        yield running


# Every boundary of every option is tried of one path alone, for the others share its options, and
# of those that have their own.
# The admin comes last: routes that are put in force lead nowhere.
@pytest.mark.parametrize("role", ["user", None, "admin"], ids=["user", "stranger", "admin"])
@pytest.mark.parametrize(
    "words",
    [
        ("--phases", "examples,fuzzing", "--max-examples", "8"),
        (
            *("--phases", "coverage"),
            *("--include-path-regex", "^/(v1/(completions|events)|admin/.*|health/.*|metrics)$"),
        ),
    ],
    ids=["every path", "boundaries"],
)
def test_schemathesis_finds_nothing(
    closed: KeyedGateway, tmp_path: Path, words: tuple[str, ...], role: Role | None
) -> None:
    program = Path(sys.executable).with_name("st")
    shown = bearer(closed.key(role)) if role else {}
    # It leaves a header out to see what happens only where that is written as in its own list.
    headers = [word for name, value in shown.items() for word in ("-H", f"{name.title()}: {value}")]
    # What the description allows may still be refused, such as a prompt beyond the context.
    done = subprocess.run(
        [
            *(str(program), "run", f"{closed.running.url}/openapi.json", "--seed", "1"),
            *(*words, *headers, "--exclude-checks", "positive_data_acceptance"),
            *("--suppress-health-check", "all", "--no-color"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert int(re.findall(r"(\d+) generated", done.stdout)[0]) > 50
    assert "Traceback" not in closed.running.log()


def test_allow_tells_every_method_of_a_path(closed: KeyedGateway) -> None:
    with closed.http(closed.key("admin")) as http:
        refused = http.delete("/admin/routes")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, PUT"
    error_of(refused)


def test_every_operation_says_how_it_fails_and_what_it_takes(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        paths = http.get("/openapi.json").json()["paths"]
    for path in ("/v1/completions", "/complete", "/v1/generate", "/v1/generate/stream", "/infill"):
        told = paths[path]["post"]
        assert {"400", "401", "413", "429", "503", "504"} <= told["responses"].keys()
        assert told["requestBody"]["required"]
        assert "422" not in told["responses"]


def test_docs_page_is_drawn_from_the_description_alone(gateway: RunningGateway) -> None:
    asked, said = [], []
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{gateway.url}/docs")
        page.wait_for_selector("details")
        shown = page.locator("main").inner_text()
        browser.close()

    assert "/v1/completions" in shown
    assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{gateway.port}"}
    assert said == []
