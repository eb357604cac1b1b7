"""What the page says when something is wrong, and what it tells the gateway of its suggestions."""

import re
import sqlite3
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from running import RunningServer, wait_until

from gateway.__main__ import main
from tests.gateway.browser import TEXT, Visit, visiting
from tests.gateway.gateways import RunningGateway, running_gateway

REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")


def statuses(visit: Visit) -> set[str]:
    """What the console says, which is of refused calls alone."""
    found = [REFUSED.match(line) for line in visit.said]
    assert all(found), visit.said
    return {one[1] for one in found if one}


def reported(gateway: RunningGateway, kinds: set[str]) -> dict[str, tuple[str, int | None]]:
    """The events table by kind, once it has these."""
    path = gateway.log_path.parent / "state" / "gateway.sqlite"

    def rows() -> dict[str, tuple[str, int | None]]:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            found = database.execute("SELECT kind, request_id, chars FROM events").fetchall()
        database.close()
        return {kind: (request_id, chars) for kind, request_id, chars in found}

    wait_until(lambda: rows().keys() >= kinds, 20)
    return rows()


@pytest.fixture
def new_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A key of the gateway that this test starts in its folder."""
    assert main(["keys", "create", "--name", "Ada", "--state", str(tmp_path / "state")]) == 0
    return capsys.readouterr().out.strip()


def test_page_asks_for_the_key_and_keeps_it_for_the_tab_alone(
    browser: Browser, server: RunningServer, tmp_path: Path, new_key: str
) -> None:
    words = ("--host", "127.0.0.1")
    with (
        running_gateway(server, tmp_path, *words) as gateway,
        visiting(browser, gateway.url) as visit,
    ):
        expect(visit.banner).to_have_text(re.compile("asks for an API key"))
        expect(visit.find("key")).to_be_focused()
        visit.page.keyboard.type("nt_wrong")
        visit.press("Enter")
        expect(visit.banner).not_to_have_text(re.compile("asks for an API key"))
        expect(visit.find("key")).to_be_focused()

        visit.find("key").fill(new_key)
        visit.press("Enter")
        expect(visit.code).to_be_focused()
        expect(visit.banner).to_have_count(0)
        assert visit.ask()

        kept = visit.page.evaluate(
            "() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]"
        )
        assert [new_key in one for one in kept] == [True, False, False]
        assert new_key not in visit.page.content() + gateway.log()
        assert statuses(visit) == {"401"}


def test_gateway_that_went_away_is_told_and_forgotten_when_it_is_back(
    browser: Browser, server: RunningServer, tmp_path: Path
) -> None:
    with (
        running_gateway(server, tmp_path, "--open") as gateway,
        visiting(browser, gateway.url) as visit,
    ):
        visit.ask()
        gateway.stop()
        visit.write(TEXT + " open(")
        expect(visit.banner).to_have_text(re.compile("can't be reached"))
        expect(visit.code).to_be_focused()

        words = ("--open", "--port", str(gateway.port))
        with running_gateway(server, tmp_path, *words):
            assert visit.ask()
            expect(visit.banner).to_have_count(0)


def test_limit_is_told_with_the_time_to_wait_and_waited_for(
    browser: Browser, server: RunningServer, tmp_path: Path
) -> None:
    words = ("--open", "--requests-per-minute", "2", "--cache-bytes", "0")
    with (
        running_gateway(server, tmp_path, *words) as gateway,
        visiting(browser, gateway.url) as visit,
    ):
        visit.page.clock.install()
        visit.code.fill(TEXT)
        while not visit.banner.count():
            visit.press("Control+Space")
            visit.page.wait_for_timeout(50)
        expect(visit.banner).to_have_text(re.compile(r"Ask again in \d+ s"))
        num_asked = visit.asked_for("/v1/completions")

        visit.page.keyboard.type(" open(")
        visit.page.wait_for_timeout(800)  # longer than it pauses otherwise
        assert visit.asked_for("/v1/completions") == num_asked

        with visit.page.expect_request("**/v1/completions"):
            visit.page.clock.fast_forward("02:00")  # the page's time alone: it asks by itself
        assert statuses(visit) == {"429"}


def test_ledger_hears_what_became_of_suggestions(
    browser: Browser, server: RunningServer, tmp_path: Path
) -> None:
    with (
        running_gateway(server, tmp_path, "--open") as gateway,
        visiting(browser, gateway.url) as visit,
    ):
        visit.ask_only_when_told()
        visit.ask()
        visit.press("Escape")
        dismissed = reported(gateway, {"shown", "dismissed"})
        assert dismissed["shown"] == dismissed["dismissed"]

        ghost = visit.ask("def add(a, b):\n    return")
        visit.press("Control+ArrowRight")
        word = len(ghost) - len(visit.ghost.text_content() or "")
        visit.press("Escape")
        request_id, chars = reported(gateway, {"accepted"})["accepted"]
        assert request_id != dismissed["shown"][0]
        assert chars == word
        assert visit.said == []


def test_suggestion_that_was_left_with_the_page_is_told_of(
    browser: Browser, server: RunningServer, tmp_path: Path
) -> None:
    with running_gateway(server, tmp_path, "--open") as gateway:
        with visiting(browser, gateway.url) as visit:
            visit.ask()
            visit.page.goto("about:blank")
            visit.asked.pop()
        assert reported(gateway, {"dismissed"})


def test_code_is_text_and_never_markup(visit: Visit) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    visit.write(evil, "</pre>" + evil)
    assert visit.find("shown").text_content() == f"{evil}</pre>{evil}\u200b"
    assert visit.page.locator("img").count() == 0
