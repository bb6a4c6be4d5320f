"""run scripts of daemontools, runit and s6, and scripts that start servers: read, never executed."""

import re
from collections.abc import Sequence
from getopt import GetoptError

from ucspid.errors import ConfigError
from ucspid.importers import chain as chains
from ucspid.importers import s6_servers, tcp_servers
from ucspid.importers.bounds import MAX_SCRIPT_BYTES
from ucspid.importers.chain import CommandChain, follow
from ucspid.importers.description import Description, Imported, SourceLine, Unmapped
from ucspid.importers.execline import Execline, read
from ucspid.importers.host import Host
from ucspid.importers.limits import set_limit
from ucspid.importers.shell_commands import ShellCommand, ShellCompound, commands
from ucspid.importers.shell_values import ShellValues, UnknownValueError
from ucspid.importers.shell_words import ShellLexer, ShellWord

TOOLS = chains.TOOLS | s6_servers.TOOLS
SERVERS = tcp_servers.SERVERS | s6_servers.SERVERS

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=", re.DOTALL)
_HARMLESS = {
    "", ":", "[", "[[", "echo", "exit", "false", "logger", "printf", "return", "set", "shift", "sleep",
    "test", "trap", "true", "unset", "wait",
}  # fmt: skip
"""Commands that leave nothing behind."""
_ULIMITS = {"c": "core", "d": "data", "f": "fsize", "l": "memlock", "n": "nofile", "s": "stack", "t": "cpu",
            "u": "nproc", "v": "as"}  # fmt: skip
_KIBIBYTES = {"core", "data", "memlock", "stack", "as"}
_BLOCK = 512
REMARK = "The supervisor's environment was passed on: here env: and inherit_env: say what programs get."


def import_script(lines: list[str], path: str, host: Host, description: Description) -> None:
    """Add the services that a script starts. Raises ConfigError for one that is not understood at all."""
    if sum(len(line) + 1 for line in lines) > MAX_SCRIPT_BYTES:
        raise ConfigError(
            [f"{host.label(path)}: larger than {MAX_SCRIPT_BYTES} bytes, which is long for a script"]
        )
    first = lines[0] if lines else ""
    found = ExeclineScript if "execline" in first else ShellScript
    count = len(description.services)
    found(lines, path, host, description).read()
    if len(description.services) == count:
        description.note(
            SourceLine(host.label(path)),
            "it starts no server that ucspid import knows",
            "keep its supervisor",
        )
    else:
        description.remark(REMARK)


def is_script(lines: Sequence[str]) -> bool:
    """Say whether lines are those of a script of the shell or of execline."""
    return bool(
        re.match(r"#!\s*\S*/(?:env\s+)?(?:sh|bash|dash|ksh|ash|execlineb)\b", lines[0] if lines else "")
    )


def service_name(path: str) -> str:
    """Return what a service is called: as its directory, if its script is run."""
    folder, _, name = path.rpartition("/")
    return folder.rpartition("/")[2] if name == "run" and folder else name


class Script:
    """What both kinds of scripts have."""

    def __init__(self, lines: list[str], path: str, host: Host, description: Description) -> None:
        """Take the lines of a script."""
        self.text = "\n".join(lines)
        self.path = path
        self.host = host
        self.label = host.label(path)
        self.description = description
        self.values = ShellValues(host, self.label)
        folder = path.rpartition("/")[0]
        self.folder = folder if folder.startswith("/") else ("/" if not folder else f"/{folder}")

    def chain(self, line: int) -> CommandChain:
        """Return the beginning of a chain at a line."""
        place = SourceLine(self.label, line)
        return CommandChain(Imported(service_name(self.path), place), place, self.host, self.folder)


class ExeclineScript(Script):
    """A script of execline: one command line."""

    def read(self) -> None:
        """Add the service."""
        words, comments = read(self.text, self.label)
        chain = self.chain(words[0].line if words else 1)
        chain.service.comments += comments
        own = {name: tool for name, tool in TOOLS.items() if name not in {"nice", "exec"}}
        try:
            argv = Execline(words, chain, self.values, own).command()
        except GetoptError as error:
            chain.note(f"{error}", "correct the command")
            argv = []
        if follow(chain, argv, TOOLS, SERVERS):
            self.description.add(chain.service)
        else:
            self.description.notes += chain.service.notes


class ShellScript(Script):
    """A script of the shell: what its commands leave behind, up to those that start servers."""

    def read(self) -> None:
        """Add the services."""
        self._settings: dict[str, int | str] = {}
        self._limits: list[tuple[SourceLine, str, int | None]] = []
        self._notes: list[Unmapped] = []
        self._remarks: list[str] = []
        lexer = ShellLexer(self.text, self.label)
        found = commands(list(lexer.tokens()))
        self._comments = [
            text.removeprefix(" ")
            for line, text in lexer.comments
            if not (line == 1 and text.startswith("!"))
        ]
        checked = False
        for command in found:
            if isinstance(command, ShellCompound):
                self._compound(command)
                continue
            joined = command.before in {"&&", "||"} and checked
            checked = self._command(command, joined=joined)
        if self.description.services and self._comments:
            self.description.trailing += self._comments
        self.description.notes += self._notes

    def _compound(self, compound: ShellCompound) -> None:
        """Look at an if or a loop: nothing of it is carried out; what it sets is not known."""
        names = [_plain_name(command) for command in compound.inside]
        for command in compound.inside:
            for word in command.words:
                if found := _assignment(word):
                    self.values.forget(found[0], f"set at line {word.line} in a {compound.kind}")
        if compound.kind == "if" and all(name in _HARMLESS for name in names[compound.conditions :]):
            self._remarks.append(
                f"Line {compound.line} of the script checked something before the server started."
            )
            return
        self._notes.append(
            Unmapped(
                SourceLine(self.label, compound.line),
                f"the {compound.kind} is not carried out",
                "check that the service is what it would have been",
            )
        )

    def _command(self, command: ShellCommand, *, joined: bool) -> bool:
        """Carry out a command as settings; return whether it is a mere check of something."""
        words = list(command.words)
        own: list[tuple[str, ShellWord]] = []
        while words and (found := _assignment(words[0])):
            own.append(found)
            words.pop(0)
        if not words:
            for name, value in own:
                self.values.set(name, value)
            return False
        name = words[0].plain() or ""
        if command.before == "|":
            self._remarks.append(
                f"Line {command.line} of the script passed the log on to {name or 'a program'}."
            )
            return False
        if name in _HARMLESS or (name == "exec" and len(words) == 1):
            return name in {"[", "[[", "test"} or joined
        if not self._builtin(command, name, words[1:]):
            self._start(command, own, words)
        return False

    def _builtin(self, command: ShellCommand, name: str, words: list[ShellWord]) -> bool:
        """Carry out what changes the shell itself; return whether the command does."""
        place = SourceLine(self.label, command.line)
        if name in {"export", "readonly"}:
            self._export(name, words)
            return True
        if name not in {"cd", "umask", "ulimit", ".", "source"}:
            return False
        try:
            arguments = self.values.words(words)
        except UnknownValueError as value:
            self._notes.append(
                Unmapped(place, f"{name}: {value} is not known", "set what it did in the file")
            )
            return True
        match [name, *arguments]:
            case ["cd", folder]:
                self.folder = folder if folder.startswith("/") else f"{self.folder.rstrip('/')}/{folder}"
                self._settings["chdir"] = self.folder
            case ["umask", mask] if re.fullmatch("0*[0-7]{1,3}", mask):
                self._settings["umask"] = f"0{int(mask, 8):02o}"
            case ["ulimit", *options]:
                self._ulimit(place, options)
            case [".", *_] | ["source", *_]:
                what = f"{name} {' '.join(arguments)}: another script is not read"
                self._notes.append(Unmapped(place, what, "write what it sets into this one"))
        return True

    def _export(self, name: str, words: list[ShellWord]) -> None:
        for word in words:
            if found := _assignment(word):
                self.values.set(*found)
            if name == "export":
                self.values.export(found[0] if found else word.literal() or "")

    def _ulimit(self, place: SourceLine, options: list[str]) -> None:
        letters = options[0].lstrip("-").strip("SH") if options else ""
        value = options[-1] if len(options) > 1 else ""
        if letters not in _ULIMITS or not (value.isdecimal() or value == "unlimited"):
            what = f"ulimit {' '.join(options)} has no equivalent"
            self._notes.append(Unmapped(place, what, "set rlimits: as it was meant"))
            return
        name = _ULIMITS[letters]
        factor = 1024 if name in _KIBIBYTES else _BLOCK if name == "fsize" else 1
        self._limits.append((place, name, int(value) * factor if value.isdecimal() else None))

    def _start(self, command: ShellCommand, own: list[tuple[str, ShellWord]], words: list[ShellWord]) -> None:
        """Add the service of a command that starts a server; note another one."""
        chain = self.chain(command.line)
        name = (words[0].literal() or "").rpartition("/")[2]
        if name not in TOOLS and name not in SERVERS:
            shown = name or "a command"
            what = f"{shown} was run before the server started"
            if any(service.place.file == self.label for service in self.description.services):
                what = f"{shown} is not run"
            self._notes.append(
                Unmapped(chain.place, what, "have it done before ucspid starts, if it is needed")
            )
            return
        service = chain.service
        service.settings |= self._settings
        try:
            chain.env = dict(self.values.exported)
            chain.env |= {variable: self.values.text(value) for variable, value in own}
            argv = self.values.words(words)
        except UnknownValueError as what:
            service.settings["program"] = [word.literal() or "?" for word in words]
            service.cannot(
                chain.place,
                f"{what} is not known without running the script",
                "write its value into the script",
            )
            self._add(service)
            return
        if follow(chain, argv, TOOLS, SERVERS):
            for place, limit, value in self._limits:
                set_limit(service, place, limit, value)
            self._add(service)
        else:
            self._notes += service.notes

    def _add(self, service: Imported) -> None:
        service.comments += self._comments
        service.notes[:0] = self._notes
        service.remarks[:0] = self._remarks
        self._comments, self._notes, self._remarks = [], [], []
        self.description.add(service)


def _assignment(word: ShellWord) -> tuple[str, ShellWord] | None:
    """Return the name and the value of NAME=VALUE, None for another word."""
    first = word.parts[0] if word.parts else None
    if first is None or first.kind != "text" or first.quoted:
        return None
    found = _ASSIGNMENT.match(first.text)
    if found is None:
        return None
    rest = first._replace(text=first.text[found.end() :])
    return found[1], ShellWord(word.line, [rest, *word.parts[1:]])


def _plain_name(command: ShellCommand) -> str:
    for word in command.words:
        if _assignment(word) is None:
            return word.plain() or "?"
    return ""
