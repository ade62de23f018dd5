"""The page of a service with keys: the dialog, wrong and right keys, and the places that store the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Tab, opened, run_by_shell
from tests.support.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KEY = "right-key"


@pytest.fixture(scope="module")
def locked(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a key."""
    log = tmp_path_factory.mktemp("locked") / "log"
    with serving(tiny_bundle, log, INFERER_API_KEYS=f"other,{KEY}") as server:
        yield server


@pytest.fixture
def locked_tab(browser: Browser, locked: Server) -> Iterator[Tab]:
    """The page of that service, where 401 is expected."""
    with opened(browser, locked) as tab:
        tab.allowed.append("401")
        yield tab


def give(tab: Tab, key: str) -> None:
    """Type `key` into the form and send it."""
    tab.page.get_by_label("Key", exact=True).fill(key)
    tab.page.get_by_role("button", name="Use this key").click()


def test_the_dialog_asks_for_a_key(locked_tab: Tab) -> None:
    """The dialog rejects wrong keys; the right key lets the waiting request go on."""
    page = locked_tab.page
    field = page.get_by_label("Key", exact=True)
    field.wait_for()
    assert field.get_attribute("type") == "password"
    give(locked_tab, "wrong")
    page.wait_for_selector("#key-problem:has-text('The server rejects this key.')")
    give(locked_tab, "schlüssel ✓")
    page.wait_for_selector("#key-problem:has-text('cannot be sent')")
    give(locked_tab, KEY)
    page.wait_for_selector("#model-name:has-text('tiny')")
    assert page.locator("dialog").count() == 0
    locked_tab.classify("good")
    assert locked_tab.bars() == locked_tab.server.predict({"text": "good"}, x_api_key=KEY).json()["scores"]


def test_only_the_tab_keeps_the_key(locked_tab: Tab) -> None:
    """The key is in sessionStorage only; localStorage, cookies, the address, the page and the command lack it."""
    page = locked_tab.page
    give(locked_tab, KEY)
    locked_tab.classify("good")
    command = locked_tab.command()
    assert '-H "x-api-key: $KEY"' in command
    assert run_by_shell(command, KEY=KEY)["label"] == "pos"
    assert KEY in page.evaluate("JSON.stringify(sessionStorage)")
    for place in (
        "JSON.stringify(localStorage)",
        "document.cookie",
        "location.href",
        "document.documentElement.outerHTML",
    ):
        assert KEY not in page.evaluate(place), place
    page.reload()
    page.wait_for_selector("#model-name:has-text('tiny')")
    page.get_by_role("button", name="Forget the key").click()
    assert page.evaluate("sessionStorage.length") == 0
    page.get_by_role("button", name="Forget the key").wait_for(state="hidden")
    page.reload()
    page.get_by_label("Key", exact=True).wait_for()


def test_not_now(locked_tab: Tab) -> None:
    """After Escape the page names the missing key; only the button opens the dialog again; the text stays."""
    page = locked_tab.page
    page.get_by_label("Key", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.wait_for_selector("#load-problem .problem:has-text('none was given')")
    with page.expect_response("**/predict"):
        page.fill("#text", "good")
    page.wait_for_selector("#prediction .problem:has-text('none was given')")
    assert page.locator("dialog").count() == 0
    page.click("#classify")
    give(locked_tab, KEY)
    page.wait_for_selector(".verdict:has-text('pos')")
    page.wait_for_selector("#model-name:has-text('tiny')")
    assert page.locator("#load-problem .problem").count() == 0
    assert page.input_value("#text") == "good"


def test_a_withdrawn_key(locked_tab: Tab) -> None:
    """After the server stops accepting a key, the dialog asks again and many texts go on with the new key."""
    page = locked_tab.page
    give(locked_tab, KEY)
    page.wait_for_selector("#model-name:has-text('tiny')")
    locked_tab.allowed.append("401")
    refuse = '{"error": "the key is missing or wrong", "error_type": "Unauthorized", "request_id": "x"}'

    def withdrawn(route: object) -> None:
        headers = route.request.headers  # type: ignore[attr-defined]
        if headers.get("x-api-key") == KEY:
            route.fulfill(status=401, body=refuse, content_type="application/json")  # type: ignore[attr-defined]
        else:
            route.continue_()  # type: ignore[attr-defined]

    page.route("**/predict", withdrawn)
    page.click("#tab-many")
    page.fill("#lines", "good\nbad")
    page.click("#classify-all")
    page.wait_for_selector("#key-problem:has-text('no longer accepts')")
    give(locked_tab, "other")
    page.wait_for_selector("#note:has-text('Done: 2 of 2 texts.')")
