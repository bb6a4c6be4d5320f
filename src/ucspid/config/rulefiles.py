"""Files of access rules, looked into with the rights of the event loop, which follows them later."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from ucspid.config.identities import UserIds
from ucspid.config.probe import LOST, REASONS, in_child
from ucspid.errors import ConfigError
from ucspid.ipc.progress import progress
from ucspid.linux import privileges
from ucspid.plan import RulesFile
from ucspid.profile import Profile
from ucspid.records import dataclass
from ucspid.rules.bounds import read, too_large
from ucspid.rules.cdb import Cdb
from ucspid.rules.lookup import decode, table_from_cdb
from ucspid.rules.tcprules import parse_text


@dataclass(frozen=True, slots=True)
class Contents:
    """How many rules a file has, and the variables that they set, sorted."""

    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a file could not be read (why), or what is wrong in it, each FILE:LINE: TEXT."""

    why: str
    problems: tuple[str, ...]


def kind_of(path: str) -> Literal["text", "cdb"]:
    """Return what a file of rules is, by its name."""
    return "cdb" if path.endswith(".cdb") else "text"


def examine(file: RulesFile) -> Contents:
    """Return what is in a file. Raises OSError, and ConfigError with all that is wrong in it."""
    progress.at(file.path)
    data = read(file.path)
    names: set[bytes] = set()
    problems = []
    known = set()
    count = 0
    for count, (where, variables) in enumerate(_rules(data, file), 1):  # noqa: B007 - the last one counts
        if variables in known:
            continue
        known.add(variables)
        _verdict, env = decode(variables)
        names.update(name for name, _ in env)
        if why := too_large((name, value) for name, value in env):
            problems.append(f"{where}: {why}")
    if problems:
        raise ConfigError(problems)
    return Contents(count, tuple(sorted(name.decode("utf-8", "surrogateescape") for name in names)))


def examine_as(user: UserIds, files: Sequence[RulesFile]) -> list[Contents | Trouble]:
    """Return what a user finds in each of the files. Raises OSError where no child can be made."""
    answers = in_child(lambda: _found_by(user, files), lost=[{"why": LOST}] * len(files))
    return [
        Contents(answer["count"], tuple(answer["names"]))
        if "names" in answer
        else Trouble(answer["why"], tuple(answer.get("problems", ())))
        for answer in answers
    ]


def _found_by(user: UserIds, files: Sequence[RulesFile]) -> list[dict[str, Any]]:
    try:
        privileges.take(Profile(uid=user.uid, gid=user.gid, groups=user.groups))
    except privileges.CannotTake as refused:
        return [{"why": f"cannot become that user: {refused}"}] * len(files)
    return [_found(file) for file in files]


def _found(file: RulesFile) -> dict[str, Any]:
    try:
        contents = examine(file)
    except ConfigError as error:
        return {"why": "", "problems": error.problems}
    except OSError as error:
        return {"why": REASONS.get(error.errno or 0, error.strerror)}
    return {"count": contents.count, "names": contents.names}


def _rules(data: bytes, file: RulesFile) -> Iterator[tuple[str, bytes]]:
    """Yield for each rule where it stands and its data as in a cdb."""
    if file.kind == "text":
        yield from ((f"{file.path}:{rule.line}", rule.data) for rule in parse_text(data, file.path))
        return
    table_from_cdb(data, file.path)
    yield from ((file.path, record.data) for record in Cdb(data, file.path).records())
