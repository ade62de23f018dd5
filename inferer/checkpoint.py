"""Conversion of a PyTorch checkpoint that is given instead of a bundle: once, in a child process, and cached.

torch never enters this process: `python -m export` writes a bundle into the cache, keyed by its inputs' content.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inferer.bundle.files import sha256_of
from inferer.bundle.reader import CONFIG, FORMAT_VERSION, FP32, INT8_TOKEN, is_bundle
from inferer.checkpoint_folder import WEIGHTS, fault_of, has_weights
from inferer.command.stages import EXPORT, stage_environment
from inferer.config import Config
from inferer.errors import BundleError, CheckpointError, ConfigError
from inferer.version import __version__

CACHE_VARIABLE = "INFERER_CACHE_DIR"

_STATE_DICT_SUFFIXES = (".bin", ".pt", ".pth")
_CHECKPOINT_FILES = ("*.json", "*.txt", "*.model", *WEIGHTS)
_CHUNK = 4096  # bytes of the child's output that are read at once, and that are kept for the error message


def default_cache_dir() -> Path:
    """Return the folder of converted checkpoints: INFERER_CACHE_DIR, or `inferer` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if not given:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inferer"
    try:
        return Path(given).expanduser()
    except RuntimeError:  # ~nobody
        raise ConfigError(CACHE_VARIABLE, given, "the path of a folder") from None


def bundle_for(
    path: str | os.PathLike[str],
    config: Config,
    *,
    quantize: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Return `path` if it is a bundle's folder, else the folder of the bundle that it was converted into.

    path: a bundle; or a Hugging Face checkpoint folder, or a bare state dict (.bin, .pt, .pth) that `config`
    describes. cache_dir: None for `default_cache_dir`. Raises BundleError for any other path, CheckpointError when the
    export packages are missing or the conversion fails.
    """
    given = Path(path)
    try:
        if is_bundle(given):
            return given
        exists, is_checkpoint = given.exists(), _is_checkpoint(given)
    except OSError as error:
        raise BundleError(given, f"cannot be read: {error.strerror}") from error
    if not exists:
        raise BundleError(given, "does not exist")
    if not is_checkpoint:
        checkpoint = f"a folder with {CONFIG} and weights, or a {', '.join(_STATE_DICT_SUFFIXES)} file"
        problem = f"is neither a bundle (a folder with inferer.json) nor a PyTorch checkpoint ({checkpoint})"
        fault = fault_of(given) if given.is_dir() else None
        raise BundleError(given, problem if fault is None else f"{problem}: {fault}")
    cache = default_cache_dir() if cache_dir is None else Path(cache_dir)
    try:
        return _converted(given, config, INT8_TOKEN if quantize else FP32, cache)
    except OSError as error:
        where = f"{cache}: {error.filename or cache}"
        raise CheckpointError(given, f"cannot be converted into {where}: {error.strerror}") from error


def _is_checkpoint(path: Path) -> bool:
    if path.is_file():
        return path.suffix in _STATE_DICT_SUFFIXES
    return (path / CONFIG).is_file() and has_weights(path)


def _converted(path: Path, config: Config, scheme: str, cache_dir: Path) -> Path:
    name = path.name if path.is_dir() else path.stem
    target = cache_dir / f"{name}-{_content_key(path, config, scheme)}"
    if is_bundle(target):
        return target
    if missing := EXPORT.missing():
        needs = f"needs packages that are not installed here ({', '.join(missing)})"
        remedy = "run `pip install .[export]`, or export it elsewhere and give the bundle"
        raise CheckpointError(path, f"converting it {needs}; {remedy}")
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(cache_dir / f"{target.name}.lock"):
        if not is_bundle(target):  # another process may have made it during the wait for the lock
            _export(path, target, config, scheme)
    return target


def _content_key(path: Path, config: Config, scheme: str) -> str:
    """Return a hash of the bundle's inputs: the files' bytes, config, scheme and version."""
    parts = [f"{FORMAT_VERSION} {__version__} {scheme}", json.dumps(config.given, sort_keys=True)]
    if path.is_file():
        parts.append(sha256_of(path))
    for folder in (path, Path(config.model_name)) if config.model_name else (path,):
        files = {file for pattern in _CHECKPOINT_FILES for file in folder.glob(pattern)}
        parts += [f"{file.name} {sha256_of(file)}" for file in sorted(files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _export(path: Path, target: Path, config: Config, scheme: str) -> None:
    arguments = [str(path.resolve()), str(target.resolve()), "--scheme", scheme]
    with tempfile.TemporaryDirectory() as folder:
        if config.given is not None:
            config_file = Path(folder) / "config.json"
            config_file.write_text(json.dumps(config.given), encoding="utf-8")
            arguments += ["--config", str(config_file)]
        code, output = _run_and_show(EXPORT.command(arguments))
    if code != 0:
        lines = [line for line in output.replace("\r", "\n").splitlines() if line.strip()]
        raise CheckpointError(path, f"export failed: {lines[-1].strip() if lines else f'exit code {code}'}")


def _run_and_show(command: list[str]) -> tuple[int, str]:
    """Run `command`, copying its output to stderr as it arrives; return its exit code and the end of the output."""
    output, pipe = b"", subprocess.PIPE
    with subprocess.Popen(command, env=stage_environment(), stdout=pipe, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        try:
            while chunk := os.read(child.stdout.fileno(), _CHUNK):
                sys.stderr.write(chunk.decode("utf-8", "replace"))
                sys.stderr.flush()
                output = (output + chunk)[-_CHUNK:]
        except BaseException:
            child.terminate()
            raise
    return child.returncode, output.decode("utf-8", "replace")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`: processes that start together convert once."""
    try:
        import fcntl
    except ImportError:  # Windows: each process converts, and the last one finds the bundle in place
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
