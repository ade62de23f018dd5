"""The curl on the page: run by bash it asks the very same, whatever is in the text; and it can be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.browser import Tab, opened, run_by_shell
from tests.support.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STRANGE = "it's \"good\" \\ \\n $HOME $(id) `id` !! \n second line\té 😀 'bad'"


def test_the_command_asks_the_same(tab: Tab) -> None:
    """The curl on the page, run by bash, gets the answer that the API gives to the very text."""
    for text in (STRANGE, "'", "'; exit 1; '", "-d @/etc/passwd", "%s \\' \"", "\x7f\x01 bad", "good " * 190):
        tab.ask(text)
        assert run_by_shell(tab.command()) == tab.server.predict({"text": text}).json()


def test_a_command_longer_than_an_argument(browser: Browser, multi_server: Server) -> None:
    """A text whose command is too long for one argument still has one that bash runs."""
    text = "good é' " * 12_000
    with opened(browser, multi_server) as tab:
        tab.ask(text)
        assert run_by_shell(tab.command())["num_tokens"] == 24_002


def test_the_command_is_copied(browser: Browser, server: Server) -> None:
    """The copy button puts the command on the clipboard and says so."""
    with opened(browser, server, permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.ask("good")
        command = tab.command()
        tab.page.get_by_role("button", name="Copy").click()
        tab.page.wait_for_selector("text=Copied")
        assert tab.page.evaluate("navigator.clipboard.readText()") == command
