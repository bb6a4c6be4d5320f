"""A command line that changes its own process step by step, by setuidgid and others, up to a server.

Each tool changes what the server has, and so what its programs have; it becomes a setting.
"""

from collections.abc import Callable
from getopt import GetoptError, getopt

from ucspid.importers.description import Imported, SourceLine
from ucspid.importers.host import SEARCH_PATH, Host
from ucspid.importers.identity import named_group, named_user
from ucspid.importers.limits import PRLIMIT, changes_nothing, is_too_small, set_limit
from ucspid.records import dataclass, field

Words = list[str]


@dataclass
class CommandChain:
    """What the process has become so far."""

    service: Imported
    place: SourceLine
    host: Host
    folder: str
    """Where the command is run: relative paths begin there."""
    env: dict[str, str] = field(default_factory=dict)
    user: str | int = "root"
    group: str | int | None = None
    groups: list[str | int] | None = None
    kept: Words = field(default_factory=list)
    """Tools that go in front of the program, as they are."""

    def path(self, path: str) -> str:
        """Return a path from the root directory."""
        return path if path.startswith("/") else f"{self.folder.rstrip('/')}/{path.removeprefix('./')}"

    def cannot(self, what: str, advice: str) -> None:
        """Note what the service would need."""
        self.service.cannot(self.place, what, advice)

    def note(self, what: str, advice: str) -> None:
        """Note what is lost."""
        self.service.note(self.place, what, advice)

    def ids(self, name: str) -> tuple[int, int]:
        """Return the ids of a user. An unknown one keeps the service from running."""
        found = self.host.accounts.user(name)
        if found is None:
            self.cannot(f"there is no user {name}", "create it, or remove the service")
        return found or (0, 0)

    def become(self, name: str) -> None:
        """Become a user with its group and no others, as setuidgid does."""
        ids = self.ids(name)
        self.user, self.group, self.groups = name, None, []
        if self.host.accounts.user_name(ids[0]) is None:
            self.group = named_group(self.host, ids[1])

    def become_numbers(self, uid: str | None, gid: str | None) -> None:
        """Become a user and a group by their numbers; without a group, it stays as it was."""
        if gid is not None and gid.isdecimal() and int(gid):
            self.group, self.groups = named_group(self.host, int(gid)), []
        if uid is not None and uid.isdecimal() and int(uid):
            if self.group is None and self.user == "root":
                self.group, self.groups = named_group(self.host, 0), []
            self.user = named_user(self.host, int(uid))
        for text in (uid, gid):
            if text is not None and not text.isdecimal():
                self.cannot(
                    f"{text or 'an empty text'} is no number of a user or a group", "write user: and group:"
                )

    def options(self, argv: Words, letters: str) -> tuple[dict[str, str], Words]:
        """Return the options in front of a command, the last of each in their order, and the rest.

        Raises GetoptError.
        """
        found, rest = getopt(argv, letters)
        options: dict[str, str] = {}
        for name, value in found:
            options.pop(name[1:], None)
            options[name[1:]] = value
        return options, rest

    def finish(self, program: Words) -> None:
        """Set what the chain has come to, and the program."""
        settings = self.service.settings
        if not program:
            self.cannot("there is no program", "add one")
            program = ["none"]
        settings["program"] = [*self.kept, *program]
        settings["user"] = self.user
        if self.group is not None:
            settings["group"] = self.group
        if self.groups is not None:
            settings["groups"] = self.groups
        if self.env:
            settings["env"] = dict(self.env)
        first = program[0]
        if any(word.startswith(("./", "../")) for word in program) or ("/" in first and first[0] != "/"):
            settings.setdefault("chdir", self.folder)
        if "chroot" not in settings and not self.finds(program[0]):
            where = "" if "/" in program[0] else f" in {self.env.get('PATH', SEARCH_PATH)}"
            self.cannot(f"there is no program {program[0]}{where}", "install it, or remove the service")

    def finds(self, program: str) -> bool:
        """Say whether a program is there."""
        if "/" in program:
            return self.host.has_program(self.path(program))
        folders = self.env.get("PATH", SEARCH_PATH).split(":")
        return any(
            self.host.has_program(f"{folder}/{program}") for folder in folders if folder.startswith("/")
        )


Tool = Callable[[CommandChain, Words], Words]


def follow(
    chain: CommandChain,
    argv: Words,
    tools: dict[str, Tool],
    servers: dict[str, Callable[[CommandChain, Words], None]],
) -> bool:
    """Follow a command line to its server; return whether it leads to one."""
    while argv:
        name = argv[0].rpartition("/")[2]
        try:
            if name in servers:
                servers[name](chain, argv[1:])
                return True
            if name not in tools:
                return False
            argv = tools[name](chain, argv[1:])
        except GetoptError as error:
            chain.service.settings.setdefault("program", argv)
            chain.cannot(f"{name}: {error}", "correct the command")
            return True
    return False


# Tools that many kinds of scripts have


def environment(chain: CommandChain, argv: Words) -> Words:
    """Do as env."""
    options, rest = chain.options(argv, "iu:")
    if "i" in options or rest[:1] == ["-"]:
        chain.env.clear()
        rest = rest[1:] if rest[:1] == ["-"] else rest
    if "u" in options:
        chain.env.pop(options["u"], None)
    while rest and "=" in rest[0]:
        name, _, value = rest.pop(0).partition("=")
        chain.env[name] = value
    return rest


def envdir(chain: CommandChain, argv: Words) -> Words:
    """Do as envdir: a variable for each file of a directory."""
    read_directory(chain, argv[0] if argv else "")
    return argv[1:]


def read_directory(chain: CommandChain, folder: str) -> None:
    """Set a variable for each file of a directory; an empty one removes it."""
    path = chain.path(folder)
    try:
        names = chain.host.entries(path)
        for name in names:
            if name.startswith(".") or "=" in name or not chain.host.is_file(f"{path}/{name}"):
                continue
            data = chain.host.read(f"{path}/{name}")
            first = data.partition(b"\n")[0].rstrip(b" \t").replace(b"\0", b"\n")
            if data:
                chain.env[name] = first.decode("utf-8", "surrogateescape")
            else:
                chain.env.pop(name, None)
    except OSError as error:
        chain.cannot(f"the directory of variables {path} cannot be read: {error.strerror}", "create it")
    chain.service.remark(f"The variables of {path} are as they were when it was imported.")


def setuidgid(chain: CommandChain, argv: Words) -> Words:
    """Do as setuidgid."""
    if argv:
        chain.become(argv[0])
    return argv[1:]


def envuidgid(chain: CommandChain, argv: Words) -> Words:
    """Do as envuidgid: UID and GID for a -U that follows."""
    if argv:
        uid, gid = chain.ids(argv[0])
        chain.env |= {"UID": str(uid), "GID": str(gid)}
    return argv[1:]


_SOFTLIMIT = {
    "a": "as", "c": "core", "d": "data", "f": "fsize", "l": "memlock", "o": "nofile", "p": "nproc",
    "r": "rss", "s": "stack", "t": "cpu",
}  # fmt: skip
_MEMORY = "alds"


def softlimit(chain: CommandChain, argv: Words) -> Words:
    """Do as softlimit: what a launcher cannot live under stays a softlimit before the program."""
    options, rest = chain.options(argv, "hHm:" + ":".join(_SOFTLIMIT) + ":")
    apply_limits(chain, "softlimit", {key: value for key, value in options.items() if key not in "hH"})
    return rest


def apply_limits(chain: CommandChain, tool: str, options: dict[str, str]) -> None:
    """Set limits by a tool's letters; = is the hard limit, which is not set here.

    What a launcher cannot live under is set in front of the program, by the tool if it is there.
    """
    for letter, value in options.items():
        names = [_SOFTLIMIT[each] for each in (_MEMORY if letter == "m" else letter)]
        if not value.isdecimal():
            chain.service.remark(f"{tool} -{letter} {value} left the limit as it was.")
            continue
        names = [name for name in names if not changes_nothing(name, int(value))]
        if not any(is_too_small(name, int(value)) for name in names):
            for name in names:
                set_limit(chain.service, chain.place, name, int(value))
        elif chain.finds(tool):
            chain.kept += [tool, f"-{letter}", value]
        else:
            chain.kept += [PRLIMIT, *(f"--{name}={value}" for name in names)]


def nice(chain: CommandChain, argv: Words) -> Words:
    """Do as nice, with -n 5 or -5."""
    value = "10"
    if argv[:1] == ["-n"]:
        value, argv = argv[1] if len(argv) > 1 else "", argv[2:]
    elif argv and argv[0].startswith("-"):
        value, argv = argv[0].removeprefix("-n").removeprefix("-"), argv[1:]
    set_nice(chain, value)
    return argv


def set_nice(chain: CommandChain, value: str) -> None:
    """Set the priority."""
    try:
        chain.service.settings["nice"] = max(-20, min(int(value), 19))
    except ValueError:
        chain.note(f"nice {value} is no number", "set nice: as it was meant")


_CHPST = "u:U:b:e:/:C:n:l:L:m:d:o:p:f:c:r:t:vP012V"


def chpst(chain: CommandChain, argv: Words) -> Words:
    """Do as chpst of runit."""
    options, rest = chain.options(argv, _CHPST)
    if "u" in options:
        become_by_name(chain, options["u"])
    if "U" in options:
        user, _, group = options["U"].partition(":")
        uid, gid = chain.ids(user)
        named = chain.host.accounts.group(group) if group else None
        chain.env |= {"UID": str(uid), "GID": str(gid if named is None else named)}
    if "e" in options:
        read_directory(chain, options["e"])
    if "/" in options:
        chain.service.settings["chroot"] = chain.path(options["/"])
    if "n" in options:
        set_nice(chain, options["n"])
    limits = {letter: options[letter] for letter in "mdopfcrt" if letter in options}
    apply_limits(chain, "chpst", limits)
    _locks(chain, options)
    return rest


def become_by_name(chain: CommandChain, text: str) -> None:
    """Become what chpst -u and tcpsvd -u name: user[:group…], or :uid[:gid…]."""
    numbers = text.startswith(":")
    user, *groups = text.removeprefix(":").split(":")
    if numbers:
        chain.become_numbers(user, groups[0] if groups else user)
    else:
        chain.become(user)
        if groups:
            chain.group = groups[0]
    chain.groups = list[str | int](groups[1:])
    for group in [] if numbers else groups:
        if chain.host.accounts.group(group) is None:
            chain.cannot(f"there is no group {group}", "create it, or remove the service")


def _locks(chain: CommandChain, options: dict[str, str]) -> None:
    for letter in "lL":
        if letter in options:
            chain.service.remark(
                f"The lock {options[letter]} kept a second server from starting; a port in use does that."
            )


def setlock(chain: CommandChain, argv: Words) -> Words:
    """Do as setlock."""
    _, rest = chain.options(argv, "nNxX")
    if rest:
        _locks(chain, {"l": rest[0]})
    return rest[1:]


def chroot(chain: CommandChain, argv: Words) -> Words:
    """Do as chroot."""
    if argv:
        chain.service.settings["chroot"] = chain.path(argv[0])
    return argv[1:]


def argv0(_chain: CommandChain, argv: Words) -> Words:
    """Do as argv0: the server's name, which its programs do not see."""
    return [argv[0], *argv[2:]] if argv else argv


def nothing(_chain: CommandChain, argv: Words) -> Words:
    """Return the command of a tool that changes nothing: exec, pgrphack, nohup."""
    while argv and argv[0].startswith("-"):
        argv = argv[1:]
    return argv


TOOLS: dict[str, Tool] = {
    "argv0": argv0, "chpst": chpst, "chroot": chroot, "command": nothing, "env": environment,
    "envdir": envdir, "envuidgid": envuidgid, "exec": nothing, "nice": nice, "nohup": nothing,
    "pgrphack": nothing, "setlock": setlock, "setsid": nothing, "setuidgid": setuidgid,
    "softlimit": softlimit,
}  # fmt: skip
