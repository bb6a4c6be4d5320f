"""The configuration file as a checked Plan, or all that is wrong with it."""

import os
from pathlib import Path

from ucspid.config import schema
from ucspid.config.positions import MAX_BYTES, read
from ucspid.config.problems import Problems
from ucspid.config.resolve import resolve
from ucspid.config.shapes import WRONG, record
from ucspid.errors import ConfigError
from ucspid.ipc.progress import progress
from ucspid.plan import Plan
from ucspid.tls.material import TlsMaterial, write


def load(path: str | os.PathLike[str], material: int | None = None, *, certificates: bool = True) -> Plan:
    """Return the plan of a file; write the certificates that it names to a descriptor, if one is given.

    With certificates=False they are not read: for whoever may not.

    Raises ConfigError with every mistake of the file, each as FILE:LINE:COLUMN: KEY: TEXT, or with
    why it cannot be read; OSError where the system has no process left to look for programs with.
    """
    file = os.fspath(path)
    progress.at(file)
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from error
    problems = Problems()
    found = _plan(data, file, problems, certificates=certificates)
    if lines := problems.lines(file):
        raise ConfigError(lines)
    assert found is not None
    plan, its_certificates = found
    if material is not None:
        write(material, its_certificates)
    return plan


def _plan(
    data: bytes, file: str, problems: Problems, *, certificates: bool
) -> tuple[Plan, TlsMaterial] | None:
    root = read(data, problems)
    if root is None:
        return None
    values = record(schema.File).convert(root, "", problems)
    if values is WRONG:
        return None
    return resolve(values, file, os.environ, problems, certificates=certificates)
