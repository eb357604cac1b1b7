"""How the page looks and speaks: alignment, contrast, themes, names, narrow screens."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect
from running import wait_until

from tests.gateway.browser import Visit, visiting
from tests.gateway.gateways import RunningGateway

CODE = "def f(x):\n\tif x:\n\t  return 'Größe → 漢字'  # tab, wide\n\n" + "y = 1 + " * 60 + "2\n\n"
MIN_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, of text
MIN_EDGE_CONTRAST = 3.0  # 1.4.11, of what one finds a control by
TEXTS = ("#state", "label", "h2", "#keys", "kbd", "dt", "dd", "#shown", ".ghost", "#key",
         "#key-form button", "#theme", "select", "#banner-text", "#banner-close")  # fmt: skip


def pixels(visit: Visit, drawn: str, hidden: str) -> bytes:
    """The editor with the text of one of its layers alone."""
    script = """([drawn, hidden]) => {
        document.querySelector(drawn).style.color = "black";
        document.querySelector(hidden).style.color = "transparent";
    }"""
    visit.page.evaluate(script, [drawn, hidden])
    return visit.find("editor").screenshot(animations="disabled")


@pytest.mark.parametrize("key", ["Control+Home", "Control+End"])
@pytest.mark.parametrize("lines", [1, 40], ids=["short", "scrolled"])
def test_what_is_drawn_lies_exactly_under_what_is_typed(visit: Visit, lines: int, key: str) -> None:
    visit.ask_only_when_told()
    visit.write(CODE * lines)
    visit.press(key)
    assert pixels(visit, "#shown", "#code") == pixels(visit, "#code", "#shown")


@pytest.mark.parametrize(
    ("text", "key", "side"),
    [("x = [" + "1, " * 200, "End", "scrollLeft"), ("x = 1\n" * 200, "Control+End", "scrollTop")],
    ids=["line", "lines"],
)
def test_cursor_is_scrolled_to(visit: Visit, text: str, key: str, side: str) -> None:
    visit.write("", text)
    visit.press(key)
    script = "(editor, side) => editor[side]"
    wait_until(lambda: visit.find("editor").evaluate(script, side) > 500, 20)


def test_long_suggestion_can_be_scrolled_to(visit: Visit) -> None:
    num_lines = visit.page.evaluate("""() => {
        const editor = document.querySelector("#editor");
        document.querySelector(".ghost").textContent = "\\n".repeat(100);
        return editor.scrollHeight - editor.clientHeight;
    }""")
    assert num_lines > 500


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(browser: Browser, gateway: RunningGateway, scheme: Any) -> None:
    with visiting(browser, gateway.url, color_scheme=scheme) as visit:
        visit.page.evaluate("document.querySelector('#banner').hidden = false")
        for selector in TEXTS:
            ratio = contrast(visit.page.locator(selector).first, "color")
            assert ratio >= MIN_CONTRAST, f"{selector}: {ratio:.2f}"
        for selector in ("#editor", "#key", "#theme", "select"):
            ratio = contrast(visit.page.locator(selector), "borderTopColor")
            assert ratio >= MIN_EDGE_CONTRAST, f"{selector}: {ratio:.2f}"


def contrast(element: Locator, name: str) -> float:
    """Of a colour of an element's, over the ground behind it (WCAG 2.2, relative luminance)."""
    over, ground = element.evaluate(
        """(element, name) => {
            const style = getComputedStyle(element), isBorder = name.startsWith("border");
            let behind = isBorder ? element.parentElement : element;
            while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
                behind = behind.parentElement;
            return [style[name], getComputedStyle(behind).backgroundColor];
        }""",
        name,
    )
    lighter, darker = sorted((luminance(over), luminance(ground)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    """Of rgb(r, g, b)."""
    match = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", color)
    assert match, f"{color} is no opaque colour"
    shares = [int(one) / 255 for one in match.groups()]
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_theme_is_the_systems_until_it_is_chosen(visit: Visit) -> None:
    light = visit.style("body", "backgroundColor")
    visit.page.emulate_media(color_scheme="dark")
    button = visit.page.get_by_role("button", name="Dark", pressed=True)
    expect(button).to_be_visible()
    assert visit.style("body", "backgroundColor") != light

    button.click()
    assert visit.style("body", "backgroundColor") == light
    visit.page.reload()
    expect(visit.page.get_by_role("button", name="Dark", pressed=False)).to_be_visible()
    assert visit.style("body", "backgroundColor") == light


def test_forced_colours_don_t_draw_the_code_twice(visit: Visit) -> None:
    visit.page.emulate_media(forced_colors="active")
    assert visit.style("#code", "color") == "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize("width", [320, 600])
def test_narrow_screen_scrolls_in_one_direction(
    browser: Browser, gateway: RunningGateway, width: int
) -> None:
    with visiting(browser, gateway.url, viewport={"width": width, "height": 700}) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        box = visit.code.bounding_box()
        assert box
        assert box["width"] > width * 0.8


def test_everything_has_a_role_and_a_name(visit: Visit) -> None:
    expect(visit.find("state")).to_have_text("ready")
    expect(visit.page.locator("body")).to_match_aria_snapshot(
        """
        - banner:
          - heading "nanotriton" [level=1]
          - status: ready
          - text: API key
          - textbox "API key"
          - button "Use key"
          - button "Dark"
        - main:
          - region "Editor":
            - heading "Editor" [level=2]
            - textbox "Editor"
          - complementary "Figures and settings":
            - heading "This suggestion" [level=2]
            - heading "This session" [level=2]
            - heading "Settings" [level=2]
            - checkbox "Suggest as I type" [checked]
            - checkbox "Fill in the middle" [checked]
            - spinbutton "Pause first, ms"
            - spinbutton "Most tokens"
            - spinbutton "Temperature"
            - combobox "Ends with the"
        """
    )


def test_suggestion_is_spoken_and_drawn_text_is_not(visit: Visit) -> None:
    ghost = visit.ask()
    spoken = visit.find("spoken")
    assert spoken.get_attribute("aria-live") == "polite"
    assert spoken.text_content() == f"Suggestion: {ghost}"
    assert visit.find("shown").get_attribute("aria-hidden") == "true"
    visit.press("Tab")
    assert spoken.text_content() == f"Inserted: {ghost}"


def test_focus_can_be_seen_everywhere(visit: Visit) -> None:
    visit.press("Escape")
    seen = []
    for _ in range(9):
        visit.press("Tab")
        seen.append(
            visit.page.evaluate("""() => {
                const focused = document.activeElement;
                const style = getComputedStyle(focused.closest("#editor") ?? focused);
                return [focused.name || focused.id || focused.tagName, style.outlineStyle];
            }""")
        )
    assert {style for name, style in seen if name != "BODY"} == {"solid"}
    assert len({name for name, _ in seen}) >= 8
