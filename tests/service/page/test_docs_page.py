"""`/docs` in a real browser: Swagger UI loads from this server and its requests reach the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.browser import Tab, opened
from tests.support.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator


def predict_block(tab: Tab) -> Locator:
    """Open POST /predict and return its block."""
    block = tab.page.locator(".opblock-post").filter(has=tab.page.locator("[data-path='/predict']"))
    block.locator("button").first.click()
    return block


def execute(block: Locator) -> str:
    """Press Execute and return the status and the body of the reply."""
    block.get_by_role("button", name="Execute").click()
    reply = block.locator(".live-responses-table tbody").first
    reply.wait_for()
    return reply.inner_text()


def authorize(tab: Tab, key: str) -> None:
    """Put `key` in place of the present one, in the dialog behind the Authorize button."""
    tab.page.locator(".btn.authorize").click()
    form = tab.page.locator(".auth-container").filter(has_text="X-API-Key")
    form.get_by_role("button", name="Remove authorization").click()
    form.locator("input").fill(key)
    form.locator("button.authorize").click()
    tab.page.locator(".btn-done").first.click()


def test_a_request_from_the_page(browser: Browser, server: Server) -> None:
    """POST /predict comes first, and Execute returns the label of the model, without a fault of the policy."""
    with opened(browser, server, path="/docs") as tab:
        block = predict_block(tab)
        block.get_by_role("button", name="Try it out").click()
        block.locator("textarea").fill('{"text": "good"}')
        reply = execute(block)
        assert reply.startswith("200")
        assert '"label": "pos"' in reply
        assert tab.page.title().startswith("tiny")
        assert tab.page.get_by_role("button", name="Authorize").count() == 0
        first = tab.page.locator(".opblock").first
        assert first.locator(".opblock-summary-method").inner_text() == "POST"
        assert first.locator("[data-path]").get_attribute("data-path") == "/predict"


def test_the_page_fits_a_phone(browser: Browser, server: Server) -> None:
    """At a width of 360 px nothing is wider than the window."""
    with opened(browser, server, path="/docs", viewport={"width": 360, "height": 800}) as tab:
        predict_block(tab).get_by_role("button", name="Try it out").wait_for()
        assert tab.overflow() == 0


def test_a_key(browser: Browser, tiny_bundle: Path, tmp_path: Path) -> None:
    """The page asks for the key and sends it with each request; Authorize replaces it."""
    with (
        serving(tiny_bundle, tmp_path / "log", INFERER_API_KEYS="right-key") as server,
        opened(browser, server, path="/docs") as tab,
    ):
        tab.allowed.append("401")
        tab.page.get_by_label("Key", exact=True).fill("right-key")
        tab.page.keyboard.press("Enter")
        block = predict_block(tab)
        block.get_by_role("button", name="Try it out").click()
        assert execute(block).startswith("200")
        authorize(tab, "wrong-key")
        assert execute(block).startswith("401")
        authorize(tab, "right-key")
        assert execute(block).startswith("200")


def test_a_failed_load(browser: Browser, server: Server) -> None:
    """If the description does not arrive, the page says so, and Try again loads it."""
    with opened(browser, server, path=None) as tab:
        tab.allowed.append("ERR_FAILED")
        tab.page.route("**/openapi.json", lambda route: route.abort())
        tab.page.goto(f"http://127.0.0.1:{server.port}/docs")
        problem = tab.page.locator("#problem .problem")
        assert problem.inner_text().startswith("The server does not")
        tab.page.unroute("**/openapi.json")
        problem.get_by_role("button", name="Try again").click()
        tab.page.wait_for_selector(".opblock")
        assert problem.count() == 0


def test_headers_and_paths(server: Server) -> None:
    """`/docs` allows data URLs for images and no other host; files have an ETag; other paths are 404."""
    policy = server.request("GET", "/docs").headers["content-security-policy"]
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:"} <= {
        part.strip() for part in policy.split(";")
    }
    for name in ("swagger-ui-bundle.js", "docs.js"):
        reply = server.request("GET", f"/page/{name}")
        assert (reply.status, reply.headers["cache-control"]) == (200, "no-cache")
        assert server.request("GET", f"/page/{name}", if_none_match=reply.headers["etag"]).status == 304
    for path in ("/page/oauth2-redirect.html", "/page/..%2fviews%2fpage.py", "/page/../views/page.py"):
        assert server.request("GET", path).status == 404
