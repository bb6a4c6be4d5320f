"""What a service runs: a program, or a script or a function in Python that is preloaded, ucspid's own too."""

import sys
from typing import Literal

from ucspid.config import forwards, schema
from ucspid.config.problems import Problems
from ucspid.config.settings import Place
from ucspid.plan import Preloaded

DEFAULT_INTERPRETER = "python3"
"""Searched in the PATH of the service."""

FORWARD = "ucspid.forward.main:run"
"""What is preloaded for a service with forward."""

_OF_PYTHON = ("args", "preload", "interpreter", "watch")
"""Keys that say nothing of other programs."""

ProgramForm = Literal["program", "python", "module", "forward"]


def form_of(entry: schema.ServiceSection) -> ProgramForm:
    """Return the key that says what the service runs; program if none does."""
    if entry.python is not None:
        return "python"
    if entry.forward is not None:
        return "forward"
    return "program" if entry.module is None else "module"


def executable_of(entry: schema.ServiceSection) -> tuple[str, str]:
    """Return the key that says what is executed, and what it says; nothing if it is not known."""
    if form_of(entry) == "program":
        return "program", str(entry.program[0]) if entry.program else ""
    if form_of(entry) == "forward":
        return "forward", sys.executable
    return "interpreter", str(entry.interpreter or DEFAULT_INTERPRETER)


def argv_of(entry: schema.ServiceSection) -> tuple[str, ...]:
    """Return the arguments, from the name that the program has for itself."""
    if entry.forward is not None and form_of(entry) == "forward":
        return forwards.arguments(entry.forward)
    if form_of(entry) != "program":
        return (str(entry.python or entry.module), *map(str, entry.args))
    words = tuple(str(word) for word in entry.program)
    return words if entry.argv0 is None else (str(entry.argv0), *words[1:])


def preloaded_of(entry: schema.ServiceSection) -> Preloaded | None:
    """Return what is imported once; None if the program is executed."""
    if form_of(entry) == "program":
        return None
    if form_of(entry) == "forward":
        return Preloaded(module=FORWARD, own=True)
    return Preloaded(
        script=None if entry.python is None else str(entry.python),
        module=None if entry.module is None else str(entry.module),
        modules=tuple(map(str, entry.preload)),
        watch=entry.watch,
    )


def check_keys(entry: schema.ServiceSection, place: Place, problems: Problems) -> None:
    """Add a problem for each key that says nothing of what the service runs."""
    if not any(problems.given(place(form)) for form in schema.ServiceSection.either):
        return
    form = form_of(entry)
    unsuited = {key: "python or module" for key in _OF_PYTHON if form in {"program", "forward"}}
    if form != "program":
        unsuited["argv0"] = "program"
    for key, needed in unsuited.items():
        if problems.given(place(key)):
            problems.add(place(key), f"needs {needed}")
    if form == "forward":
        _check_forward(entry, place, problems)
    if entry.program and not entry.program[0]:
        path, _ = next(problems.items(place("program"), entry.program))
        problems.add(path, "the name of the program is empty")


def _check_forward(entry: schema.ServiceSection, place: Place, problems: Problems) -> None:
    if entry.stderr == "client":
        problems.add(place("stderr"), "client would get the report of forward: use log, inherit or null")
    if entry.tls is not None and entry.tls.mode == "starttls":
        problems.add(place("tls"), "starttls takes a program that asks for it, which forward is not")
