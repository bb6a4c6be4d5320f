"""Which files are meant by a path, and what is watched so that no change to them is missed."""

import os
from pathlib import Path

import pytest

from ucspid.plan import CertificateFiles
from ucspid.tls.certificate_paths import MAX_LINKS, MAX_MATCHES, NotWatching, pairs


class Watched:
    """What was asked for."""

    def __init__(self) -> None:
        self.entries: set[tuple[str, str]] = set()
        self.directories: set[str] = set()

    def entry(self, directory: str, name: str) -> None:
        self.entries.add((directory, name))

    def itself(self, directory: str) -> None:
        self.directories.add(directory)


def found(path: str | Path, key: str | None = None) -> list[tuple[str, str]]:
    return [
        (pair.chain.real, pair.key.real)
        for pair in pairs(CertificateFiles(path=str(path), key=key), NotWatching())
    ]


def watched(path: str | Path) -> Watched:
    watching = Watched()
    try:
        pairs(CertificateFiles(path=str(path)), watching)
    except OSError:
        """What is missing is watched for."""
    return watching


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Return the folder without symbolic links on the way."""
    return tmp_path.resolve()


def certbot(root: Path, *names: str) -> None:
    """Make what certbot has for these names."""
    (root / "live").mkdir()
    (root / "live/README").write_text("see certbot(1)")
    for name in names:
        for folder in (root / "live" / name, root / "archive" / name):
            folder.mkdir(parents=True)
        for file in ("fullchain", "privkey"):
            (root / "archive" / name / f"{file}1.pem").write_text(name)
            (root / "live" / name / f"{file}.pem").symlink_to(f"../../archive/{name}/{file}1.pem")


def test_a_file_is_chain_and_key(real: Path) -> None:
    (real / "c.pem").touch()
    assert found(real / "c.pem") == [(f"{real}/c.pem", f"{real}/c.pem")]
    assert found(f"{real}//./c.pem") == [(f"{real}/c.pem", f"{real}/c.pem")]


def test_a_directory_has_what_certbot_makes(real: Path) -> None:
    certbot(real, "a", "b")
    a = (f"{real}/archive/a/fullchain1.pem", f"{real}/archive/a/privkey1.pem")
    b = (f"{real}/archive/b/fullchain1.pem", f"{real}/archive/b/privkey1.pem")
    assert found(real / "live/a") == [a]
    assert found(real / "live/*") == found(real / "l?ve/[ab]") == [a, b]


def test_a_key_of_its_own_and_no_pattern_there(real: Path) -> None:
    (real / "*.pem").touch()
    (real / "k").touch()
    assert found(real / "*.pem", f"{real}/k") == [(f"{real}/*.pem", f"{real}/k")]


def test_what_a_pattern_passes_over(real: Path) -> None:
    certbot(real, "a")
    (real / "live/.hidden.pem").touch()
    (real / "live/new").mkdir()
    assert len(found(real / "live/*")) == 1
    assert found(real / "live/*.pem") == found(real / "none*") == found(real / "live/README/*") == []
    assert len(found(real / "live/.hid*")) == 1
    (real / "live/new/privkey.pem").touch()
    with pytest.raises(FileNotFoundError) as error:
        found(real / "live/*")
    assert error.value.filename == f"{real}/live/new/fullchain.pem"


def test_names_that_look_like_patterns_are_names_where_a_pattern_has_matched_them(real: Path) -> None:
    (real / "[x]").mkdir()
    (real / "[x]/c.pem").touch()
    (real / "x").mkdir()
    (real / "x/c.pem").touch()
    assert found(real / "*/c.pem") == [(f"{real}/[x]/c.pem",) * 2, (f"{real}/x/c.pem",) * 2]


def test_links_that_go_round_in_circles(real: Path) -> None:
    (real / "c.pem").symlink_to("c.pem")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        found(real / "c.pem")
    before = real / "f"
    before.touch()
    for number in range(MAX_LINKS + 1):
        (real / f"l{number}").symlink_to(before)
        before = real / f"l{number}"
    assert found(real / f"l{MAX_LINKS - 1}") == [(f"{real}/f", f"{real}/f")]
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        found(before)


def test_matches_are_bounded(real: Path) -> None:
    for number in range(MAX_MATCHES + 1):
        (real / str(number)).touch()
    with pytest.raises(OSError, match=f"matches more than {MAX_MATCHES} files"):
        found(real / "*")
    (real / "0").unlink()
    assert len(found(real / "*")) == MAX_MATCHES


def test_the_entry_of_a_file_is_watched_and_no_entry_of_the_directories_above_it(real: Path) -> None:
    (real / "d").mkdir()
    (real / "d/c.pem").touch()
    watching = watched(real / "d/c.pem")
    assert watching.entries == {(f"{real}/d", "c.pem")}
    above = [*Path(f"{real}/d").parents][:-1]
    assert watching.directories == {f"{real}/d", *map(str, above)}


def test_links_on_the_way_are_watched_and_their_targets(real: Path) -> None:
    certbot(real, "a")
    (real / "link").symlink_to("live")
    assert watched(real / "link/a").entries == {
        (str(real), "link"),
        (f"{real}/live/a", "fullchain.pem"),
        (f"{real}/live/a", "privkey.pem"),
        (f"{real}/archive/a", "fullchain1.pem"),
        (f"{real}/archive/a", "privkey1.pem"),
    }


def test_what_is_missing_is_watched_for(real: Path) -> None:
    assert watched(real / "a/b/c.pem").entries == {(str(real), "a")}
    (real / "broken").symlink_to("nowhere/x")
    assert watched(real / "broken").entries == {(str(real), "broken"), (str(real), "nowhere")}
    (real / "live/new").mkdir(parents=True)
    assert watched(real / "live/*").entries == {
        (f"{real}/live", "*"),
        (f"{real}/live/new", "fullchain.pem"),
        (f"{real}/live/new", "privkey.pem"),
    }
    assert watched(real / "live/new").entries == {(f"{real}/live/new", "fullchain.pem")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root is refused nothing here")
def test_what_may_not_be_read_is_said(real: Path) -> None:
    (real / "d").mkdir(mode=0)
    with pytest.raises(PermissionError) as error:
        found(real / "d/c.pem")
    assert error.value.filename == f"{real}/d/c.pem"
