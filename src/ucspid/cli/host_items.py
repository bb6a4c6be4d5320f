"""What an installation has on a host beside the package: a user, a folder, the unit, links."""

import contextlib
import glob
import os
import subprocess
import sys
from typing import Protocol

from ucspid.errors import ConfigError, ResourceError
from ucspid.tools.table import TOOLS

USER = "ucspid"
"""The user that the event loop is meant to run as."""
FOLDER = "/etc/ucspid"
UNIT = "/etc/systemd/system/ucspid.service"

MADE = "# Made by ucspid install, which overwrites it. Changes belong in a drop-in: systemctl edit ucspid\n"
"""The first line of the unit, by which it is known."""
_AS_PACKAGED = "/opt/ucspid/bin/ucspid"
"""The command in the unit as it is packaged."""
_SHARED = (
    "man/man[1-8]/*",
    "bash-completion/completions/ucspid",
    "zsh/site-functions/_ucspid",
    "fish/vendor_completions.d/ucspid.fish",
)
"""What of the package other programs look for below /usr/local/share."""


class Item(Protocol):
    """One thing on the host."""

    def __str__(self) -> str:
        """Return what it is, and where."""

    @property
    def there(self) -> bool:
        """Whether it is there as it should be."""

    @property
    def present(self) -> bool:
        """Whether it is there, perhaps as another version has made it."""

    @property
    def foreign(self) -> bool:
        """Whether something that was not made here is in its place."""

    @property
    def kept(self) -> str:
        """Why it is not removed, if it is not."""

    def make(self) -> None:
        """Make it. Raises OSError, ResourceError."""

    def remove(self) -> None:
        """Remove it. Raises OSError, ResourceError."""


def command() -> str:
    """Return the path of this installation's command. Raises ConfigError if a unit cannot have it."""
    path = os.path.join(os.path.dirname(sys.executable), "ucspid")
    if set(path) & set(" \t\n%$\"'\\;"):
        raise ConfigError([f"{path}: a unit cannot name a program with such characters in its path"])
    return path


def shared_files() -> list[tuple[str, str]]:
    """Return where man pages and completions are looked for, and where the package has them."""
    share = os.path.join(sys.prefix, "share")
    found = [path for pattern in _SHARED for path in sorted(glob.glob(os.path.join(share, pattern)))]
    pairs = [(f"/usr/local/share{path.removeprefix(share)}", path) for path in found]
    return [(place, path) for place, path in pairs if "/man/" not in place or _is_our_page(path)]


def _is_our_page(path: str) -> bool:
    """Return whether a page of the environment is of this package."""
    name = os.path.basename(path).rpartition(".")[0]
    return name in TOOLS or name.startswith("ucspid")


class Placed:
    """A path below the root directory."""

    kept = ""

    def __init__(self, root: str, place: str) -> None:
        """Know where it belongs."""
        self.place = place
        self.path = os.path.join(root, place.lstrip("/"))

    @property
    def present(self) -> bool:
        """Whether it is there."""
        return os.path.lexists(self.path)


class Folder(Placed):
    """The folder of the configuration."""

    def __str__(self) -> str:
        """Return what it is."""
        return f"folder {self.place}"

    @property
    def there(self) -> bool:
        """Whether it is there."""
        return os.path.isdir(self.path)

    @property
    def foreign(self) -> bool:
        """Whether a file is in its place."""
        return self.present and not self.there

    @property
    def kept(self) -> str:  # type: ignore[override]
        """Why it stays: somebody's configuration."""
        return "it is not empty" if self.there and os.listdir(self.path) else ""

    def make(self) -> None:
        """Make it, for everybody to read."""
        os.makedirs(self.path, 0o755)

    def remove(self) -> None:
        """Remove it."""
        os.rmdir(self.path)


class UnitFile(Placed):
    """The unit of systemd."""

    def __str__(self) -> str:
        """Return what it is."""
        return f"unit {self.place}"

    @staticmethod
    def text() -> str:
        """Return it, with the path of this installation's command."""
        with open(os.path.join(os.path.dirname(__file__), "ucspid.service")) as file:
            return MADE + file.read().replace(_AS_PACKAGED, command())

    def _found(self) -> str:
        try:
            with open(self.path, errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    @property
    def there(self) -> bool:
        """Whether it is there as this version has it."""
        return self._found() == self.text()

    @property
    def foreign(self) -> bool:
        """Whether somebody else has written it."""
        return self.present and not self._found().startswith(MADE)

    def make(self) -> None:
        """Write it, at once and whole."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        temporary = f"{self.path}.{os.getpid()}.new"
        try:
            with open(temporary, "x") as file:
                file.write(self.text())
                os.fchmod(file.fileno(), 0o644)
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def remove(self) -> None:
        """Remove it."""
        os.unlink(self.path)


class Link(Placed):
    """A symbolic link to a file of the package."""

    def __init__(self, root: str, place: str, target: str) -> None:
        """Know where it belongs, and what it leads to."""
        super().__init__(root, place)
        self._target = target

    def __str__(self) -> str:
        """Return what it is."""
        return f"link {self.place} -> {self._target}"

    @property
    def there(self) -> bool:
        """Whether it is there, and leads there."""
        return os.path.islink(self.path) and os.readlink(self.path) == self._target

    @property
    def foreign(self) -> bool:
        """Whether something else is in its place."""
        return self.present and not self.there

    def make(self) -> None:
        """Make it."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        os.symlink(self._target, self.path)

    def remove(self) -> None:
        """Remove it."""
        os.unlink(self.path)


class User:
    """The user that the event loop runs as. It owns no file, so nothing is left without an owner."""

    foreign = False
    kept = ""

    def __init__(self, root: str) -> None:
        """Know whose users it belongs to."""
        self._root = root

    def __str__(self) -> str:
        """Return what it is."""
        return f"user {USER}"

    @property
    def there(self) -> bool:
        """Whether it is in passwd(5)."""
        return self._is_in("etc/passwd")

    present = there

    def _is_in(self, name: str) -> bool:
        try:
            with open(os.path.join(self._root, name), errors="replace") as file:
                return any(line.startswith(f"{USER}:") for line in file)
        except FileNotFoundError:
            return False

    def make(self) -> None:
        """Add it, with a group of its own, without a password, a home and a shell."""
        self._run("useradd", "--system", "--user-group", "--home-dir", "/", "--no-create-home",
                  "--shell", "/usr/sbin/nologin")  # fmt: skip

    def remove(self) -> None:
        """Remove it and its group."""
        self._run("userdel")
        if self._is_in("etc/group"):  # login.defs(5) says whether userdel removes it
            self._run("groupdel")

    def _run(self, *words: str) -> None:
        where = [] if os.path.realpath(self._root) == "/" else ["--prefix", os.path.abspath(self._root)]
        done = subprocess.run([*words, *where, USER], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ResourceError(f"{words[0]}: {done.stderr.strip() or done.returncode}")
