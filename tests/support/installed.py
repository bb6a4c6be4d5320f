"""An installation of ucspid of its own, whose code a test may replace while the daemon runs."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import ucspid

SOURCE = Path(ucspid.__path__[0])


class Installation:
    """What a virtual environment with ucspid in it is, made without pip: the package is a copy."""

    def __init__(self, folder: Path) -> None:
        """Install the code under test."""
        self.package = folder / "code" / "ucspid"
        shutil.copytree(SOURCE, self.package)
        self.python = folder / "bin" / "python"
        self.python.parent.mkdir()
        self.python.symlink_to(sys._base_executable)  # type: ignore[attr-defined]
        home = Path(sys._base_executable).parent  # type: ignore[attr-defined]
        (folder / "pyvenv.cfg").write_text(f"home = {home}\n")
        site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        site.mkdir(parents=True)
        (site / "paths.pth").write_text(f"{self.package.parent}\n{sysconfig.get_path('purelib')}\n")

    @property
    def command(self) -> list[str]:
        """Return what becomes the daemon, up to its verb."""
        return [os.fspath(self.python), "-I", "-m", "ucspid"]

    def version(self, version: str) -> None:
        """Install another version; its length must not be that of the one before.

        Python's cache of compiled modules knows them by size and by time, in seconds.
        """
        self.replace("__init__.py", f'__version__ = "{ucspid.__version__}"', f'__version__ = "{version}"')

    def replace(self, module: str, before: str, after: str) -> None:
        """Change a module that is as in the source otherwise."""
        text = (SOURCE / module).read_text()
        assert before in text
        changed = self.package / f"{module}.new"
        changed.write_text(text.replace(before, after))
        changed.rename(self.package / module)

    def restore(self, module: str) -> None:
        """Have a module as it is in the source again."""
        shutil.copy2(SOURCE / module, self.package / module)
