"""What pyproject.toml cannot say: the native launcher is compiled, where there is a C compiler.

Without one the package is installed all the same: `launcher: auto` takes the launcher in Python then.
"""

import os
import runpy
from typing import Any

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

SOURCE = os.path.join("src", "ucspid", "launcher")
EXECUTABLE = "ucspid-launcher"


class BuildPy(build_py):
    """Puts the executable beside the modules that start it."""

    def run(self) -> None:
        """Compile after everything else, and say so if that cannot be done."""
        super().run()
        native = runpy.run_path(os.path.join(SOURCE, "native", "build.py"))
        folder = SOURCE if self.editable_mode else os.path.join(self.build_lib, "ucspid", "launcher")
        try:
            native["build"](os.path.join(folder, EXECUTABLE))
        except native["CannotBuildError"] as problem:
            self.warn(f"the native launcher is left out, the one in Python will be used: {problem}")

    def get_outputs(self, *args: Any, **options: Any) -> list[str]:
        """Name what was made: it is installed, and removed with the rest."""
        made = os.path.join(self.build_lib, "ucspid", "launcher", EXECUTABLE)
        return [*super().get_outputs(*args, **options), *([made] if os.path.exists(made) else [])]


class Wheel(bdist_wheel):
    """A wheel with the executable is for one platform, and for any Python; one without is for all."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return Python, ABI and platform that the wheel is for: known when all is built."""
        library = self.get_finalized_command("build_py").build_lib
        made = os.path.exists(os.path.join(library, "ucspid", "launcher", EXECUTABLE))
        return ("py3", "none", super().get_tag()[2] if made else "any")


class WithExecutable(Distribution):
    """Belongs where files are that depend on the machine."""

    def has_ext_modules(self) -> bool:
        """Say so."""
        return True


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": Wheel}, distclass=WithExecutable)
