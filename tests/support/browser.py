"""A real browser on real gunicorn; console errors and requests to other hosts fail the test."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# No background traffic; root in a container has no sandbox.
_ARGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@dataclass
class Tab:
    """A page in a browser context of its own; `allowed`: parts of the console messages that a test expects."""

    page: Page
    server: Server
    faults: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    @property
    def prediction(self) -> Locator:
        """Return the box with the prediction for one text."""
        return self.page.locator("#prediction")

    def classify(self, text: str) -> None:
        """Enter `text`, classify it at once, and wait for its prediction or an error."""
        self.page.wait_for_selector("#model-line:has-text('per text')")  # thresholds are known
        with self.page.expect_response("**/predict"):
            self.page.fill("#text", text)
            self.page.press("#text", "Control+Enter")
        self.page.wait_for_selector("#prediction[aria-busy=false] :is(.verdict, .problem)")

    def classify_all(self, lines: Sequence[str]) -> None:
        """Enter `lines` in the view of many texts and wait for the end of the run."""
        self.page.get_by_role("tab", name="Many texts").click()
        self.page.fill("#lines", "\n".join(lines))
        self.page.click("#classify-all")
        self.page.wait_for_selector("#note:has-text('Done')")

    def bars(self) -> dict[str, float]:
        """Return the unrounded scores of the bars, in their order."""
        bars = self.page.locator(".bars li").all()
        return {bar.get_attribute("data-label") or "": float(bar.get_attribute("data-score") or "nan") for bar in bars}

    def command(self, place: str = "#one-curl") -> str:
        """Return the first curl command in `place`."""
        if not self.page.locator(f"{place} details").get_attribute("open"):
            self.page.locator(f"{place} details").evaluate("node => { node.open = true }")
        return self.page.locator(f"{place} code").first.inner_text()

    def overflow(self) -> int:
        """Return the pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def check(self) -> None:
        """Fail on an unexpected fault."""
        unexpected = [fault for fault in self.faults if not any(part in fault for part in self.allowed)]
        assert not unexpected, unexpected


def launched() -> Iterator[Browser]:
    """Start the browser, or skip.

    The browser ends with the module: while Playwright runs, this thread has an event loop and asyncio.run fails.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(_NAMES)} is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, server: Server, path: str | None = "/", **context: Any) -> Iterator[Tab]:
    """Open `path` of `server`, or an empty window, and check for faults at the end.

    context: arguments of Playwright's new_context.
    """
    held = browser.new_context(**context)
    page = held.new_page()
    page.set_default_timeout(15_000)
    tab = Tab(page, server)
    page.on("console", lambda message: message.type in ("error", "warning") and tab.faults.append(message.text))
    page.on("pageerror", lambda error: tab.faults.append(str(error)))
    here = f"127.0.0.1:{server.port}"

    def note(url: str) -> None:
        if urlsplit(url).scheme != "blob" and urlsplit(url).netloc != here:
            tab.faults.append(f"a request to another host: {url}")

    held.on("request", lambda request: note(request.url))
    try:
        if path is not None:
            page.goto(f"http://{here}{path}")
        yield tab
        tab.check()
    finally:
        held.close()


def serious(page: Page) -> list[str]:
    """Return the faults that axe-core rates above minor."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    found = axe.run(page).response["violations"]
    return [
        f"{fault['id']} ({fault['impact']}): {[node['html'][:120] for node in fault['nodes'][:3]]}"
        for fault in found
        if fault["impact"] != "minor"
    ]


def run_by_shell(command: str, **variables: str) -> Any:
    """Run `command` in bash and return its output, parsed as JSON."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, check=True, env={"PATH": "/usr/bin:/bin", **variables}
    )
    return json.loads(done.stdout)
