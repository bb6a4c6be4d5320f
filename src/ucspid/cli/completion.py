"""What bash, zsh and fish complete after ucspid, from the parser of its arguments.

python -m ucspid.cli.completion DIR writes bash/ucspid, zsh/_ucspid and fish/ucspid.fish below DIR.
"""

import argparse
import os
import shlex
import sys
from typing import NamedTuple

from ucspid.cli.main import parser
from ucspid.errors import EXIT_USAGE
from ucspid.tools.table import TOOLS

_FILES = {"FILE", "PATH", "TEXT", "CDB"}
_FOLDERS = {"DIR"}
_ARGUMENTS = 1
_MADE = "# Made by make docs from the command's parser.\n"


class Argument(NamedTuple):
    """An option, or a word by its place, for which option is empty."""

    option: str
    value: str
    """What its value is called; empty for an option without one."""
    help: str
    choices: tuple[str, ...]
    many: bool


class CompletedVerb(NamedTuple):
    """A verb, or the two words of a verb and its action: what it is for, what may follow."""

    words: str
    help: str
    actions: tuple[str, ...]
    arguments: tuple[Argument, ...]


def verbs() -> list[CompletedVerb]:
    """Return the verbs of the command, each followed by its actions if it has some."""
    return _below(parser(), "")


def _below(of: argparse.ArgumentParser, before: str) -> list[CompletedVerb]:
    found: list[CompletedVerb] = []
    for action in of._actions:  # noqa: SLF001 - argparse shows them in no other way
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            continue
        helps = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
        for name, inner in action.choices.items():
            below = _below(inner, f"{before}{name} ")
            actions = tuple(verb.words.rpartition(" ")[2] for verb in below)
            arguments = () if actions else _arguments(inner)
            found += [CompletedVerb(f"{before}{name}", helps[name], actions, arguments), *below]
    return found


def _arguments(of: argparse.ArgumentParser) -> tuple[Argument, ...]:
    found = [action for action in of._actions if action.dest != "help"]  # noqa: SLF001
    return tuple(
        Argument(
            action.option_strings[0] if action.option_strings else "",
            "" if action.nargs == 0 else str(action.metavar or action.dest),
            (action.help or "") % {"default": action.default},
            tuple(action.choices or ()),
            action.nargs in {"*", "+"} or isinstance(action, argparse._AppendAction),  # noqa: SLF001
        )
        for action in found
    )


def bash() -> str:
    """Return the completion for bash."""
    first = [verb.words for verb in verbs() if " " not in verb.words]
    acting = [verb for verb in verbs() if verb.actions]
    lines = [
        f"{_MADE}_ucspid() {{",
        "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}",
        "    local verb=${COMP_WORDS[1]} words='' files=''",
        "    COMPREPLY=()",
        "    if (( COMP_CWORD == 1 )); then",
        f"        verb='' words={shlex.quote(' '.join([*first, '--help', '--version', *TOOLS]))}",
        "    fi",
        "    case $verb in",
    ]
    for verb in acting:
        lines += [
            f"    {verb.words})",
            f"        if (( COMP_CWORD == 2 )); then verb='' words='{' '.join(verb.actions)}'",
            '        else verb+=" ${COMP_WORDS[2]}"; fi ;;',
        ]
    lines += ["    esac", "    case $verb in", "    '') ;;"]
    for verb in verbs():
        if not verb.actions:
            lines += _bash_verb(verb)
    lines += [
        "    *) files=-f ;;",
        "    esac",
        '    local found; found=$(compgen -W "$words" -- "$current")',
        '    [[ -z $found ]] || mapfile -t COMPREPLY <<<"$found"',
        '    [[ -z $files ]] || mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen $files -- "$current")',
        "    if [[ -n $files ]]; then compopt -o filenames 2>/dev/null; fi",
        "}",
        "complete -F _ucspid ucspid",
    ]
    return "\n".join(lines) + "\n"


def _bash_verb(verb: CompletedVerb) -> list[str]:
    options = [each for each in verb.arguments if each.option]
    placed = [each for each in verb.arguments if not each.option]
    lines = [f"    {shlex.quote(verb.words)})", "        case $previous in"]
    lines += [f"        {each.option}) {_bash_value([each], [])} ;;" for each in options if each.value]
    names = [each.option for each in options]
    lines += [f"        *) {_bash_value(placed, [*names, '--help'])} ;;", "        esac ;;"]
    return lines


def _bash_value(arguments: list[Argument], words: list[str]) -> str:
    names = [*words, *(choice for each in arguments for choice in each.choices)]
    values = {each.value for each in arguments}
    files = "-f" if values & _FILES else "-d" if values & _FOLDERS else ""
    return f"words='{' '.join(names)}' files='{files}'"


def zsh() -> str:
    """Return the completion for zsh."""
    first = [verb for verb in verbs() if " " not in verb.words]
    lines = [
        f"#compdef ucspid\n{_MADE}_ucspid() {{",
        "    local -a found",
        "    if (( CURRENT == 2 )); then",
        "        found=(",
        *(f"            {shlex.quote(f'{verb.words}:{verb.help}')}" for verb in first),
        *(f"            {tool}" for tool in TOOLS),
        "        )",
        "        _describe verb found",
        "        return",
        "    fi",
        "    shift words; (( CURRENT-- ))",
        "    local verb=$words[1]",
        "    case $verb in",
    ]
    for verb in (verb for verb in first if verb.actions):
        lines += [
            f"    {verb.words})",
            f"        if (( CURRENT == 2 )); then compadd {' '.join(verb.actions)}; return; fi",
            "        shift words; (( CURRENT-- ))",
            '        verb+=" $words[1]" ;;',
        ]
    lines += ["    esac", "    case $verb in"]
    for verb in (verb for verb in verbs() if not verb.actions):
        specs = [shlex.quote(_zsh_argument(each)) for each in verb.arguments]
        lines.append(f"    {shlex.quote(verb.words)}) _arguments {' '.join([*specs, '--help'])} ;;")
    lines += ["    *) _files ;;", "    esac", "}", '_ucspid "$@"']
    return "\n".join(lines) + "\n"


def _zsh_argument(argument: Argument) -> str:
    said = "".join(f"\\{char}" if char in "[]:\\" else char for char in argument.help)
    values = f"({' '.join(argument.choices)})" if argument.choices else ""
    values = "_files" if argument.value in _FILES else "_files -/" if argument.value in _FOLDERS else values
    many = "*" if argument.many else ""
    if not argument.option:
        return f"{many}:{said}:{values or ' '}"
    return f"{many}{argument.option}[{said}]" + (
        f":{argument.value}:{values or ' '}" if argument.value else ""
    )


def fish() -> str:
    """Return the completion for fish."""
    lines = [
        f"{_MADE}function __ucspid_is",
        "    set -l words (commandline -opc)",
        "    set -l last (math (count $argv) + 1)",
        '    test (count $words) -ge $last; and test "$words[2..$last]" = "$argv"',
        "end",
        "function __ucspid_at",
        "    test (count (commandline -opc)) -eq $argv[1]",
        "end",
        "complete -c ucspid -f",
        *(f"complete -c ucspid -n '__ucspid_at 1' -a {tool}" for tool in TOOLS),
        *(f"complete -c ucspid -n '__ucspid_is {tool}' -F" for tool in TOOLS),
    ]
    for verb in verbs():
        *before, name = verb.words.split()
        place = f"__ucspid_at {len(before) + 1}"
        condition = f"__ucspid_is {' '.join(before)}; and {place}" if before else place
        lines.append(f"complete -c ucspid -n '{condition}' -a {name} -d {_fish_text(verb.help)}")
        lines += [_fish_argument(verb, each) for each in verb.arguments]
    return "\n".join(lines) + "\n"


def _fish_argument(verb: CompletedVerb, argument: Argument) -> str:
    line = f"complete -c ucspid -n '__ucspid_is {verb.words}'"
    name = argument.option.lstrip("-")
    if name:
        line += f" -{'l' if argument.option.startswith('--') else 's'} {name}"
    if argument.value in _FILES | _FOLDERS:
        line += " -r -F" if name else " -F"
    elif argument.value and name:
        line += " -x"
    if argument.choices:
        line += f" -a '{' '.join(argument.choices)}'"
    return f"{line} -d {_fish_text(argument.help)}"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


FILES = {"bash/ucspid": bash, "zsh/_ucspid": zsh, "fish/ucspid.fish": fish}
"""What is written, and what returns its content."""


def main(arguments: list[str]) -> int:
    """Write all completions below the folder given; return the exit code."""
    if len(arguments) != _ARGUMENTS:
        sys.stderr.write("usage: python -m ucspid.cli.completion DIR\n")
        return EXIT_USAGE
    for name, content in FILES.items():
        path = os.path.join(arguments[0], name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
