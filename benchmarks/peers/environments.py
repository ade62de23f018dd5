"""The environments of the peers: one virtual environment each under build/peers, with pinned versions.

python -m benchmarks.peers.environments [NAME …]
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.server import ROOT, environment

FOLDER = ROOT / "build" / "peers"
_TIMEOUT_S = 1800
_FLASK = ("flask==3.1.3", "gunicorn==27.0.1")
_ORT = ("onnxruntime==1.31.1", "tokenizers==0.23.3", "numpy==2.4.6")
_TORCH = "torch==2.13.0"
PACKAGES: dict[str, tuple[str, ...]] = {
    "ours": ("--require-hashes", "-r", str(ROOT / "requirements_inference.txt")),
    "flask": (*_FLASK, *_ORT),
    "pipeline": (*_FLASK, _TORCH, "transformers==5.24.0"),
    "optimum": (
        *("fastapi==0.163.2", "uvicorn[standard]==0.54.0", "optimum-onnx[onnxruntime]==0.1.0", "optimum==2.1.0"),
        *("onnxruntime==1.31.1", "transformers==4.57.6", _TORCH),
    ),
    "litserve": ("litserve==0.2.19", *_ORT),
    "bentoml": ("bentoml==1.4.40", *_ORT),
    # Its workers do not start with a newer uvloop.
    "mlserver": ("mlserver==1.7.1", "uvloop==0.21.0", "onnxruntime==1.31.1", "tokenizers==0.23.3"),
    "openvino": (*_FLASK, "openvino==2026.4.1", "nncf==3.4.0", "tokenizers==0.23.3"),
    "ctranslate2": ("ctranslate2==4.8.5", "transformers==4.57.6", _TORCH),
}
_TELLING = {
    *("bentoml", "ctranslate2", "fastapi", "flask", "gunicorn", "litserve", "mlserver", "nncf", "numpy", "onnxruntime"),
    *("openvino", "optimum", "optimum-onnx", "tokenizers", "torch", "transformers", "uvicorn"),
}


class MissingError(Exception):
    """A peer that cannot be measured here; the message is one line that says what is missing."""


def python_of(name: str) -> str:
    """Return the python of an environment; make it first unless it is whole and of these packages."""
    folder, packages = FOLDER / name, PACKAGES[name]
    python, mark = str(folder / "bin" / "python"), folder / "installed.txt"
    asked = "\n".join([*packages, *(Path(one).read_text(encoding="utf-8") for one in packages if one.endswith(".txt"))])
    if mark.is_file() and mark.read_text(encoding="utf-8") == asked:
        return python
    print(f"making the environment {name}: {' '.join(packages)}", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True, env=environment())
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    try:
        done = subprocess.run(
            [*pip, *packages], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, cwd=FOLDER
        )
        failure = last_line(done.stderr) if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"pip took more than {_TIMEOUT_S} s"
    if failure:
        shutil.rmtree(folder)
        raise MissingError(f"{name}: the environment cannot be made: {failure}")
    mark.write_text(asked, encoding="utf-8")
    return python


def last_line(text: str) -> str:
    """Return the last line that names an error, as pip and a traceback do, else the last; at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"ERROR|[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["it said nothing"])[-1][:300]


def versions(name: str) -> dict[str, str]:
    """Return the installed version of each package of an environment that bears on its speed."""
    asked = [sys.executable, "-m", "pip", "--python", str(FOLDER / name / "bin" / "python"), "freeze"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    pairs = (line.lower().partition("==") for line in done.stdout.splitlines() if "==" in line)
    return {package: version for package, _, version in pairs if package in _TELLING}


def size(path: Path) -> int:
    """Return the bytes of a file or of all files of a folder; a link counts as nothing."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def main() -> None:
    """Make the environments that are named, by default all of them."""
    for name in sys.argv[1:] or PACKAGES:
        try:
            print(f"{name}: {python_of(name)}, {size(FOLDER / name) / 1e6:.0f} MB", flush=True)
        except MissingError as missing:
            print(missing, flush=True)


if __name__ == "__main__":
    main()
