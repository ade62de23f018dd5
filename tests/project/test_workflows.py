"""Checks of .github/workflows and .pre-commit-config.yaml: make targets, pinned actions, tools of .venv."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.server import ROOT, run_to_end

WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of all jobs."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_workflows_are_there() -> None:
    """Check, test, image and release each have a workflow."""
    assert set(WORKFLOWS) == {"check", "test", "image", "release"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_calls_make_and_pinned_actions(name: str) -> None:
    """A workflow runs targets that `make help` lists, and GitHub's own actions at a fixed version."""
    listed = run_to_end("make", "help").stdout
    commands = [step["run"] for step in steps(WORKFLOWS[name]) if "run" in step]
    targets = [match[1] for command in commands if (match := re.match(r"make ([a-z]+)", command))]
    assert targets
    assert all(re.search(rf"make {target}\b", listed) for target in targets)
    assert len(targets) == len([command for command in commands if not command.startswith("gh release ")])
    for step in steps(WORKFLOWS[name]):
        assert re.fullmatch(r"actions/[a-z-]+@(v\d+|[0-9a-f]{40})", step.get("uses", "actions/checkout@v4"))


def test_a_release_is_for_tags_alone() -> None:
    """The release runs on tags, and no other workflow may write to the repository."""
    # YAML 1.1 reads the key `on` as true.
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}
    writers = [name for name, workflow in WORKFLOWS.items() if "write" in workflow["permissions"].values()]
    assert writers == ["release"]


def test_the_hooks_use_the_tools_of_the_environment() -> None:
    """Each pre-commit hook is local and runs from .venv, so that nothing is downloaded."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    for repository in config["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            assert hook["entry"].startswith(".venv/bin/")
