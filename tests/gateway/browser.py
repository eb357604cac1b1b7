"""A real Chromium that visits a gateway's page, and what it saw there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, Playwright, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
# A machine that others keep busy: how long anything may take to be seen.
PATIENCE_MS = 20_000
TEXT = "def read_lines(path):\n    with"


@dataclass
class Visit:
    """One person's page; `said` is its console, `asked` the addresses that it called."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def code(self) -> Locator:
        """Where one types."""
        return self.page.get_by_role("textbox", name="Editor")

    @property
    def banner(self) -> Locator:
        """Where errors are told."""
        return self.page.get_by_role("alert")

    @property
    def ghost(self) -> Locator:
        """The suggestion."""
        return self.page.locator(".ghost")

    def find(self, name: str) -> Locator:
        """By its id."""
        return self.page.locator(f"#{name}")

    def press(self, key: str) -> None:
        """A key, wherever the focus is."""
        self.page.keyboard.press(key)

    def text(self) -> str:
        """What the editor holds."""
        return self.code.input_value()

    def write(self, before: str, after: str = "") -> None:
        """Put text into the editor, and the cursor in it."""
        self.code.fill(before + after)
        self.code.evaluate("(code, at) => code.setSelectionRange(at, at)", len(before))

    def ask_only_when_told(self) -> None:
        """Not while one types."""
        self.page.get_by_label("Suggest as I type").uncheck()

    def ask(self, before: str = TEXT, after: str = "") -> str:
        """Have a suggestion at the cursor between these; the whole of it."""
        self.write(before, after)
        self.press("Control+Space")
        expect(self.find("spoken")).to_contain_text("Suggestion: ")
        return self.ghost.text_content() or ""

    def asked_for(self, path: str) -> int:
        """How often it was called."""
        return sum(url.endswith(path) for url in self.asked)

    def style(self, selector: str, name: str) -> str:
        """A computed style."""
        script = "([one, name]) => getComputedStyle(document.querySelector(one))[name]"
        value: str = self.page.evaluate(script, [selector, name])
        return value


def launch(playwright: Playwright) -> Browser:
    """A Chromium without a window."""
    assert CHROMIUM.exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    return playwright.chromium.launch(
        executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
    )


@contextmanager
def running_browser() -> Iterator[Browser]:
    """One for a while, in which asyncio.run can't be called."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """The page, opened by somebody new; it may call nobody but its gateway."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    visit = Visit(context.new_page())
    visit.page.on("console", lambda message: visit.said.append(message.text))
    visit.page.on("pageerror", lambda error: visit.said.append(str(error)))
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    visit.page.goto(url)
    try:
        yield visit
    finally:
        context.close()
    assert {one for one in visit.asked if not one.startswith(f"{url}/")} == set()
