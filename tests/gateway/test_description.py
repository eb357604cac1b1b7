"""The OpenAPI description is true, and people can read it without any other site."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.gateway.browser import launch
from tests.gateway.gateways import RunningGateway


# Every boundary of every option is tried of one path alone: the others share its options.
@pytest.mark.parametrize(
    "words",
    [
        ("--phases", "examples,fuzzing", "--max-examples", "8"),
        ("--phases", "coverage", "--include-path", "/v1/completions"),
    ],
    ids=["every path", "boundaries"],
)
def test_schemathesis_finds_nothing(
    gateway: RunningGateway, tmp_path: Path, words: tuple[str, ...]
) -> None:
    program = Path(sys.executable).with_name("st")
    # What the description allows may still be refused, such as a prompt beyond the context; and
    # an open gateway ignores keys.
    done = subprocess.run(
        [
            *(str(program), "run", f"{gateway.url}/openapi.json", "--seed", "1"),
            *words,
            *("--exclude-checks", "positive_data_acceptance,ignored_auth"),
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
    assert "Traceback" not in gateway.log()


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
