"""Take the picture of the page that the documents show; run by hand, with a gateway running.

python -m tests.gateway.picture http://127.0.0.1:8080 docs/page.png
"""

import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.gateway.browser import PATIENCE_MS, launch

SIZE = {"width": 1280, "height": 800}


def take_picture(url: str, path: Path) -> None:
    """The page in light colours, with a suggestion in the middle of its sample."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(url)
        expect(page.get_by_role("status")).to_have_text("ready", timeout=PATIENCE_MS)
        page.keyboard.press("Control+Space")
        expect(page.locator("#spoken")).to_contain_text("Suggestion: ", timeout=PATIENCE_MS)
        page.screenshot(path=path, caret="initial")
        browser.close()


if __name__ == "__main__":
    take_picture(sys.argv[1], Path(sys.argv[2]))
