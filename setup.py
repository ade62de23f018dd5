"""The wheel's native part: the fused operators, built where there is a compiler. The rest is in pyproject.toml."""

from __future__ import annotations

import sys
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

_NATIVE = Path("inferer", "native")
_FILE = Path(__file__).parent / _NATIVE / "build.py"


class BuildPy(build_py):
    """The Python files, and the library beside them; an editable install leaves it to `make setup`."""

    def run(self) -> None:
        """Copy the files and build the library."""
        super().run()
        if self.editable_mode:
            return
        spec = spec_from_file_location("inferer_native_build", _FILE)
        assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it is a file of ours
        native = module_from_spec(spec)
        spec.loader.exec_module(native)
        if why_not := native.build(Path(self.build_lib) / _NATIVE):
            sys.stderr.write(f"the wheel has no native operators, which models run without: {why_not}\n")


class Wheel(bdist_wheel):
    """A wheel for this platform where it has the library, else for any."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags of Python, ABI and platform; the library is independent of Python's version."""
        if not list(Path(self.bdist_dir).rglob("operators.so")):
            return super().get_tag()
        return "py3", "none", sysconfig.get_platform().replace("-", "_").replace(".", "_")


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": Wheel})
