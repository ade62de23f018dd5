"""The pages for everybody: what axe-core finds, the keyboard alone, a phone's width, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import opened, serious
from tests.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LONG = "good bad odd plain plain plain good bad odd"
LOOKS = [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)]


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_page_has_no_serious_fault(browser: Browser, multi_server: Server, scheme: str, width: int) -> None:
    """axe-core finds no fault in an answer, an explanation, a table, an error, and nothing is wider than the window."""
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with opened(browser, multi_server, **look) as tab:
        tab.allowed.append("422")
        tab.ask(LONG)
        tab.page.click("#explain")
        tab.page.wait_for_selector("#parts")
        tab.page.locator("#options summary").click()
        tab.command()
        assert (serious(tab.page), tab.overflow()) == ([], 0)
        tab.ask_all(["good", "bad " * 40, "x" * 300, "odd " * 30_000, "plain"])
        assert (serious(tab.page), tab.overflow()) == ([], 0)
        tab.page.click("#tab-one")
        tab.page.fill("#threshold", "7")
        tab.page.wait_for_selector("#answer .problem")
        assert (serious(tab.page), tab.overflow()) == ([], 0)


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_card_has_no_serious_fault(
    browser: Browser, demo_bundle: Path, tmp_path: Path, scheme: str, width: int
) -> None:
    """axe-core finds no fault in the demo's card and in the form for the key, and nothing is wider than the window."""
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with serving(demo_bundle, tmp_path / "log", INFERER_API_KEYS="key") as server:
        with opened(browser, server, path="/#model", **look) as tab:
            tab.allowed.append("401")
            tab.page.get_by_label("Key", exact=True).wait_for()
            assert (serious(tab.page), tab.overflow()) == ([], 0)
            tab.page.keyboard.type("key")
            tab.page.keyboard.press("Enter")
            tab.page.wait_for_selector("#guard")
            assert (serious(tab.page), tab.overflow()) == ([], 0)


def test_the_keyboard_reaches_everything(browser: Browser, server: Server) -> None:
    """From the top, Tab goes through the skip link, the tabs and every control in order, each with its outline."""
    with opened(browser, server) as tab:
        page = tab.page
        page.wait_for_selector("#model-name:has-text('tiny')")
        reached = []
        for _ in range(9):
            page.keyboard.press("Tab")
            name = "document.activeElement.id || document.activeElement.textContent.trim()"
            reached.append(page.evaluate(name))
            style = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(style) != "none", reached[-1]
        assert reached == [
            *("Skip to the content", "The API", "tab-one", "text", "classify", "explain", "Options"),
            *("The same with curl", "How to ask from a program"),
        ]


def test_the_keyboard_alone_does_everything(browser: Browser, server: Server) -> None:
    """Text, answer, tabs by arrows, many texts and their table are had without a mouse."""
    with opened(browser, server) as tab:
        page = tab.page
        page.wait_for_selector("#model-name:has-text('tiny')")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.type("bad")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".verdict:has-text('neg')")
        page.locator("#announcer:has-text('neg')").wait_for(state="attached")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("ArrowLeft")
        assert page.get_by_role("tab", name="Model").get_attribute("aria-selected") == "true"
        assert page.get_by_role("tabpanel", name="Model").is_visible()
        page.keyboard.press("ArrowLeft")
        assert page.url.endswith("#many")
        page.keyboard.press("Tab")
        page.keyboard.type("good")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.wait_for_selector("#note:has-text('Done')")
        while page.evaluate("document.activeElement.className") != "scroll tall":
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement !== document.body")


def test_headings_go_in_order(browser: Browser, server: Server) -> None:
    """There is one h1, and no heading skips a level."""
    with opened(browser, server, path="/#model") as tab:
        tab.page.wait_for_selector("#card-about")
        levels = tab.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_forced_colours_keep_the_bars(browser: Browser, server: Server) -> None:
    """With forced colours a bar is still told from its ground."""
    with opened(browser, server, forced_colors="active") as tab:
        tab.ask("good")
        colours = tab.page.locator(".chosen .bar").evaluate(
            "bar => [bar, bar.querySelector('.fill')].map(node => getComputedStyle(node).backgroundColor)"
        )
        assert colours[0] != colours[1]


def test_less_motion_where_it_is_asked_for(browser: Browser, server: Server) -> None:
    """With prefers-reduced-motion a bar takes its width at once."""
    with opened(browser, server, reduced_motion="reduce") as tab:
        tab.ask("good")
        assert tab.page.locator(".chosen .fill").evaluate("bar => getComputedStyle(bar).transitionDuration") == "0s"
