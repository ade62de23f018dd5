"""Output folders: whole or absent whatever stops the run, and nobody else's files are lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT
from training.run.output import OutputError, check_target, fresh_folder

MARKER = "config.json"


def checkpoint(folder: Path, content: str = "old") -> Path:
    """Make a folder with the marker in it."""
    folder.mkdir(parents=True)
    (folder / MARKER).write_text(content)
    return folder


def names(folder: Path) -> list[str]:
    """Return the names in a folder, hidden ones included."""
    return sorted(entry.name for entry in folder.iterdir())


def dead_process() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def start_writing(target: Path) -> subprocess.Popen[str]:
    """Start a process that writes half of a folder for `target` and waits; return it once it has."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom training.run.output import fresh_folder\n"
        "with fresh_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x')\n    print('writing', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_a_folder_takes_its_place_at_the_end(tmp_path: Path) -> None:
    """The target appears only when the block ends, whole, readable by others, with nothing beside it."""
    target = tmp_path / "deep" / "model"
    check_target(target, MARKER, overwrite=False)
    with fresh_folder(target) as folder:
        (folder / MARKER).write_text("new")
        assert folder.parent == target.parent
        assert not target.exists()
    assert names(target.parent) == ["model"]
    assert (target / MARKER).read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    """An error in the block leaves neither a target nor anything beside it."""

    def fail() -> None:
        with fresh_folder(tmp_path / "model") as folder:
            (folder / MARKER).write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_overwriting_keeps_the_old_folder_until_the_end(tmp_path: Path) -> None:
    """The old folder is whole while the new one is written, and gone, file by file, afterwards."""
    target = checkpoint(tmp_path / "model")
    (target / "only in the old").touch()
    check_target(target, MARKER, overwrite=True)
    with fresh_folder(target) as folder:
        (folder / MARKER).write_text("new")
        assert (target / MARKER).read_text() == "old"
    assert names(target) == [MARKER]
    assert (target / MARKER).read_text() == "new"
    assert names(tmp_path) == ["model"]


def test_overwriting_that_fails_keeps_the_old_folder(tmp_path: Path) -> None:
    """An error while overwriting leaves the old folder as it was."""
    target = checkpoint(tmp_path / "model")

    def fail() -> None:
        with fresh_folder(target) as folder:
            (folder / MARKER).write_text("half")
            raise ValueError

    with pytest.raises(ValueError, match="^$"):
        fail()
    assert names(tmp_path) == ["model"]
    assert (target / MARKER).read_text() == "old"


def test_a_killed_run_s_leftover_goes_with_the_next(tmp_path: Path) -> None:
    """The leftover of a run killed by SIGKILL is hidden, and the next check of the same target removes it."""
    target = tmp_path / "model"
    process = start_writing(target)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()  # type: ignore[union-attr]
    (leftover,) = names(tmp_path)
    assert leftover.startswith(".model.")
    check_target(target, MARKER, overwrite=False)
    assert names(tmp_path) == []


def test_a_running_run_s_folder_is_left_alone(tmp_path: Path) -> None:
    """The folder of a run that still writes is not treated as a leftover."""
    target = tmp_path / "model"
    process = start_writing(target)
    try:
        before = names(tmp_path)
        check_target(target, MARKER, overwrite=False)
        assert names(tmp_path) == before
        assert len(before) == 1
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()  # type: ignore[union-attr]


def test_a_folder_moved_aside_is_put_back(tmp_path: Path) -> None:
    """A run killed between moving the old folder away and moving the new one in loses nothing."""
    target = tmp_path / "model"
    checkpoint(tmp_path / f".model.{dead_process()}.abcd_123.partial" / "old")
    with pytest.raises(OutputError, match="is there already"):
        check_target(target, MARKER, overwrite=False)
    assert names(tmp_path) == ["model"]
    assert (target / MARKER).read_text() == "old"


def test_a_swap_that_is_interrupted_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt within the swap leaves the old folder in its place, and nothing beside it."""
    target = checkpoint(tmp_path / "model")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    def run() -> None:
        with fresh_folder(target) as folder:
            (folder / MARKER).write_text("new")
            monkeypatch.setattr(Path, "replace", stopped)

    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    assert names(tmp_path) == ["model"]
    assert (target / MARKER).read_text() == "old"


def test_the_leftover_of_a_process_that_nobody_collected_is_removed(tmp_path: Path) -> None:
    """A killed process that its parent has not yet collected does not keep its leftover."""
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leftover = tmp_path / f".model.{killed.pid}.abcd_123.partial"
    leftover.mkdir()
    check_target(tmp_path / "model", MARKER, overwrite=False)
    assert leftover.exists()
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    check_target(tmp_path / "model", MARKER, overwrite=False)
    assert not leftover.exists()
    killed.communicate()


@pytest.mark.parametrize("name", [".model.v2.{pid}.abcd_123.partial", ".model.{pid}.partial", ".model.x.ab.partial"])
def test_only_the_target_s_own_leftovers_are_touched(tmp_path: Path, name: str) -> None:
    """Another target's leftover, or anything of a similar name, is neither removed nor put in the target's place."""
    other = tmp_path / name.format(pid=dead_process())
    checkpoint(other / "old")
    check_target(tmp_path / "model", MARKER, overwrite=True)
    assert names(tmp_path) == [other.name]
    assert (other / "old" / MARKER).is_file()


def test_a_leftover_with_wildcard_characters_is_removed(tmp_path: Path) -> None:
    """The leftover of a target with wildcard characters in its name is removed as any other."""
    (tmp_path / f".m[1]*.{dead_process()}.abcd_123.partial").mkdir()
    check_target(tmp_path / "m[1]*", MARKER, overwrite=False)
    assert names(tmp_path) == []


def test_a_folder_that_is_there_needs_overwrite(tmp_path: Path) -> None:
    """An existing checkpoint needs overwrite, an empty folder does not."""
    target = checkpoint(tmp_path / "model")
    with pytest.raises(OutputError) as caught:
        check_target(target, MARKER, overwrite=False)
    assert str(caught.value) == f"{target}: is there already; choose another, or say --overwrite to replace it"
    check_target(target, MARKER, overwrite=True)
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty", MARKER, overwrite=False)
    with fresh_folder(tmp_path / "empty") as folder:
        (folder / MARKER).touch()
    assert names(tmp_path / "empty") == [MARKER]


def test_a_foreign_folder_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    """A folder with other files in it is refused with overwrite too, and keeps them."""
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter.txt").touch()
    with pytest.raises(OutputError) as caught:
        check_target(target, MARKER, overwrite=True)
    assert str(caught.value) == f"{target}: is a folder with other files in it ({MARKER} is missing); choose another"
    assert names(target) == ["chapter.txt"]


def test_a_file_or_a_link_is_refused(tmp_path: Path) -> None:
    """A target that is a file, or a link even to a checkpoint, is refused."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(checkpoint(tmp_path / "model"))
    for name in ("file", "link"):
        with pytest.raises(OutputError, match="is there already and is not a folder$"):
            check_target(tmp_path / name, MARKER, overwrite=True)


@pytest.mark.parametrize("name", [".", "..", "/", "model/.."])
def test_a_folder_without_a_name_of_its_own_is_refused(name: str) -> None:
    """A target such as the current folder, which cannot be renamed into place, is refused before the work."""
    with pytest.raises(OutputError, match="cannot be replaced as a whole"):
        check_target(Path(name), MARKER, overwrite=True)


def test_a_target_under_a_file_is_refused(tmp_path: Path) -> None:
    """A target whose parent is a file, however far up, is refused before the work."""
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "model", tmp_path / "file" / "deep" / "model"):
        with pytest.raises(OutputError) as caught:
            check_target(target, MARKER, overwrite=False)
        assert str(caught.value) == f"{target}: {tmp_path / 'file'} is not a folder"


def test_a_parent_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target in a folder that this user may not write to is refused before the work."""
    asked = []

    def access(path: Path, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", access)  # a test that runs as root may write everywhere
    with pytest.raises(OutputError) as caught:
        check_target(tmp_path / "deep" / "model", MARKER, overwrite=False)
    assert str(caught.value) == f"{tmp_path / 'deep' / 'model'}: {tmp_path} cannot be written to"
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]


def test_the_folder_and_its_files_can_be_read_by_others(tmp_path: Path) -> None:
    """Others can read the folder and its files, even those that were written as private."""
    with fresh_folder(tmp_path / "model") as folder:
        (folder / "weights").touch(mode=0o600)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_inside_exec_leaves_the_exit_code_to_the_program(tmp_path: Path, number: signal.Signals) -> None:
    """A signal within `exec` of a string, which imports use, ends `python -m` with the program's own code."""
    (tmp_path / "program.py").write_text(
        "import signal, sys\n"
        "from training.run.output import interrupt_on_signals\n"
        "interrupt_on_signals()\n"
        "try:\n"
        f"    exec('signal.raise_signal({int(number)})')\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-m", "program"], env=environment, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (130, b"")
