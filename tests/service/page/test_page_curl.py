"""The curl command of the page: it repeats the request for any text, and a button copies it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.browser import Tab, opened, run_by_shell
from tests.support.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STRANGE = "it's \"good\" \\ \\n $HOME $(id) `id` !! \n second line\té 😀 'bad'"


def test_the_command_repeats_the_request(tab: Tab) -> None:
    """The curl command, run in bash, returns the reply of the API to the same text."""
    for text in (STRANGE, "'", "'; exit 1; '", "-d @/etc/passwd", "%s \\' \"", "\x7f\x01 bad", "good " * 190):
        tab.classify(text)
        assert run_by_shell(tab.command()) == tab.server.predict({"text": text}).json()


def test_a_command_longer_than_an_argument(browser: Browser, multi_server: Server) -> None:
    """A text too long for one argument still has a command that bash runs."""
    text = "good é' " * 12_000
    with opened(browser, multi_server) as tab:
        tab.classify(text)
        assert run_by_shell(tab.command())["num_tokens"] == 24_002


def test_the_command_is_copied(browser: Browser, server: Server) -> None:
    """The copy button puts the command on the clipboard and confirms it."""
    with opened(browser, server, permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.classify("good")
        command = tab.command()
        tab.page.get_by_role("button", name="Copy").click()
        tab.page.wait_for_selector("text=Copied")
        assert tab.page.evaluate("navigator.clipboard.readText()") == command
