"""Checks of docs/run.md: the table of settings against the code."""

from __future__ import annotations

from service import settings
from service.settings import Settings
from tests.docs.pages import page, rows, section
from tests.support.server import ROOT


def test_the_settings_table_has_every_variable_and_its_default() -> None:
    """The settings table has every variable, no others, and each one's default."""
    shown = {row[0].strip("`"): row[1] for row in rows(section(page("docs/run.md"), "## Settings"))}
    assert tuple(shown) == settings.VARIABLES
    defaults = Settings()
    for name, default in shown.items():
        value = getattr(defaults, name.removeprefix("INFERER_").lower())
        if name == "INFERER_BUNDLE":
            assert value == ROOT / default.strip("`")
        elif name == "INFERER_THREADS":
            assert default == f"`{defaults.worker_threads}`"
        elif isinstance(value, bool):
            assert default == {"INFERER_BATCHING": "`on`", "INFERER_LOG_TEXTS": "`0`"}[name]
            assert value is (name == "INFERER_BATCHING")
        elif value in ("", 0, (), None):
            assert "`" not in default, f"{name}: the default is computed, the table says {default}"
        else:
            assert default == f"`{value}`"
