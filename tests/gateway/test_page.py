"""The page as a person uses it: a real Chromium, a real gateway, a real model."""

import pytest
from playwright.sync_api import expect

from tests.gateway.browser import TEXT, Visit
from tests.gateway.gateways import RunningGateway

AFTER = "\n\n\ndef main():\n\tprint(read_lines('notes.txt'))\n"


def test_typing_brings_ghost_text_that_tab_accepts_and_undo_takes_back(visit: Visit) -> None:
    visit.code.fill("")
    visit.code.press_sequentially("def read_lines(path):\n    with op")
    expect(visit.find("spoken")).to_contain_text("Suggestion: ")
    typed, ghost = visit.text(), visit.ghost.text_content() or ""

    visit.press("Tab")
    assert visit.text() == typed + ghost
    expect(visit.ghost).to_be_empty()
    expect(visit.code).to_be_focused()

    visit.press("Control+z")
    assert visit.text() == typed


def test_typing_along_keeps_the_suggestion_and_asks_nobody(visit: Visit) -> None:
    ghost = visit.ask()
    num_asked = visit.asked_for("/v1/completions")

    visit.page.keyboard.type(ghost[:3])
    expect(visit.ghost).to_have_text(ghost[3:], use_inner_text=False)
    visit.press("Backspace")
    assert visit.ghost.text_content() == ghost[2:]
    visit.page.wait_for_timeout(500)  # longer than it pauses before it asks

    assert visit.asked_for("/v1/completions") == num_asked


def test_typing_something_else_asks_again(visit: Visit) -> None:
    ghost = visit.ask()
    with visit.page.expect_request("**/v1/completions") as asked:
        visit.page.keyboard.type("#" if ghost[0] != "#" else "x")
    assert asked.value.post_data_json["prompt"] == visit.text()


def test_escape_dismisses_and_then_tab_moves_on(visit: Visit) -> None:
    visit.ask()
    visit.press("Escape")
    expect(visit.ghost).to_be_empty()
    assert visit.text() == TEXT

    visit.press("Tab")

    expect(visit.code).not_to_be_focused()
    assert visit.text() == TEXT


@pytest.mark.parametrize("key", ["ArrowLeft", "Delete", "Control+a"])
def test_suggestion_goes_where_the_cursor_leaves(visit: Visit, key: str) -> None:
    visit.ask(after=AFTER)
    visit.press(key)
    expect(visit.ghost).to_be_empty()


def test_control_right_accepts_a_word(visit: Visit) -> None:
    ghost = visit.ask()
    word = ghost[: len(ghost) - len(ghost.lstrip())] + ghost.split()[0].split("(")[0]

    visit.press("Control+ArrowRight")

    assert visit.text() == TEXT + word
    assert visit.ghost.text_content() == ghost[len(word) :]


def test_middle_is_filled_in_where_the_cursor_is(visit: Visit) -> None:
    with visit.page.expect_request("**/v1/completions") as asked:
        ghost = visit.ask(TEXT, AFTER)
    body = asked.value.post_data_json
    assert (body["prompt"], body["suffix"]) == (TEXT, AFTER)
    assert visit.find("shown").text_content() == f"{TEXT}{ghost}{AFTER}\u200b"

    visit.press("Tab")

    assert visit.text() == TEXT + ghost + AFTER
    assert visit.code.evaluate("code => code.selectionStart") == len(TEXT + ghost)


def test_figures_tell_what_it_took(visit: Visit) -> None:
    visit.ask_only_when_told()
    visit.ask("def figures(values):\n    with")
    expect(visit.find("ttft")).to_contain_text("ms")
    expect(visit.find("total")).to_contain_text("ms")
    tokens = visit.find("tokens").inner_text().split(" + ")
    assert all(int(one) > 0 for one in tokens)
    assert float(visit.find("cost").inner_text()) > 0
    assert visit.find("num-tokens").inner_text() == str(sum(map(int, tokens)))
    assert visit.find("served").inner_text().startswith("version 1")
    assert visit.find("num-shown").inner_text() == "1"


def test_page_is_not_sent_again_while_it_is_the_same(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        first = http.get("/page/main.js")
        again = http.get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
        changed = http.get("/page/main.js", headers={"If-None-Match": '"another"'})
    assert (first.status_code, again.status_code, changed.status_code) == (200, 304, 200)
    assert first.headers["content-security-policy"].startswith("default-src 'none'; ")
