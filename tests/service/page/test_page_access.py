"""Accessibility of the page: axe-core, keyboard, phone width, light, dark and forced colours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.browser import Tab, opened, serious
from tests.support.server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LONG = "good bad odd plain plain plain good bad odd"


def faults(tab: Tab) -> dict[str, object]:
    """Return the faults that axe-core finds and any overflow, in light and dark, on a desktop and a phone."""
    found: dict[str, object] = {}
    for scheme in ("light", "dark"):
        for width in (1280, 360):
            tab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            tab.page.set_viewport_size({"width": width, "height": 800})
            found[f"{scheme} {width}"] = [
                *serious(tab.page),
                *([f"{tab.overflow()} px too wide"] if tab.overflow() else []),
            ]
    return {look: messages for look, messages in found.items() if messages}


def test_no_serious_fault_in_the_predictions(browser: Browser, multi_server: Server) -> None:
    """axe-core finds no fault in a prediction, an explanation, a table and an error, and nothing overflows."""
    with opened(browser, multi_server) as tab:
        tab.allowed.append("422")
        tab.classify(LONG)
        tab.page.click("#explain")
        tab.page.wait_for_selector("#parts")
        tab.page.locator("#options summary").click()
        tab.command()
        assert faults(tab) == {}
        tab.classify_all(["good", "bad " * 40, "x" * 300, "odd " * 30_000, "plain"])
        assert faults(tab) == {}
        tab.page.click("#tab-one")
        tab.page.fill("#threshold", "7")
        tab.page.wait_for_selector("#prediction .problem")
        assert faults(tab) == {}


def test_no_serious_fault_in_the_card_and_the_dialog(browser: Browser, demo_bundle: Path, tmp_path: Path) -> None:
    """axe-core finds no fault in the dialog for the key and in the model card, and nothing overflows."""
    with (
        serving(demo_bundle, tmp_path / "log", INFERER_API_KEYS="key") as server,
        opened(browser, server, path="/#model") as tab,
    ):
        tab.allowed.append("401")
        tab.page.get_by_label("Key", exact=True).wait_for()
        assert faults(tab) == {}
        tab.page.keyboard.type("key")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#guard")
        assert faults(tab) == {}
        assert tab.page.locator("h1").count() == 1


def test_the_keyboard_reaches_everything(browser: Browser, server: Server) -> None:
    """Tab visits the skip link, the tabs and each control in order, each with an outline."""
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
            *("Same request with curl", "Call the service from a program"),
        ]


def test_the_keyboard_alone_does_everything(browser: Browser, server: Server) -> None:
    """A text, the tabs, many texts and their table work without a mouse."""
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
        page.keyboard.press("Shift+Tab")
        assert page.evaluate("document.activeElement.id") == "tab-many"
        page.keyboard.press("Tab")
        page.keyboard.type("good")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.wait_for_selector("#note:has-text('Done')")
        while page.evaluate("document.activeElement.className") != "scroll tall":
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement !== document.body")


def test_forced_colours_keep_the_bars(browser: Browser, server: Server) -> None:
    """With forced colours a bar differs from its background."""
    with opened(browser, server, forced_colors="active") as tab:
        tab.classify("good")
        colours = tab.page.locator(".chosen .bar").evaluate(
            "bar => [bar, bar.querySelector('.fill')].map(node => getComputedStyle(node).backgroundColor)"
        )
        assert colours[0] != colours[1]


def test_reduced_motion(browser: Browser, server: Server) -> None:
    """With prefers-reduced-motion the bars have no transition."""
    with opened(browser, server, reduced_motion="reduce") as tab:
        tab.classify("good")
        assert tab.page.locator(".chosen .fill").evaluate("bar => getComputedStyle(bar).transitionDuration") == "0s"
