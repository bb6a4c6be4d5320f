"""ucspid import as a command: its output, its exit codes, its bounds."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tiers import examples
from ucspid.cli.main import main
from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.importers import bounds, collect, host
from ucspid.importers.collect import import_paths
from ucspid.importers.description import AccessRule, Imported, SourceLine
from ucspid.importers.host import Host
from ucspid.importers.sharing import ORDER, share

INETD = """\
# Mail
7101 stream tcp nowait nobody /bin/cat cat

# not now
#7102 stream tcp nowait nobody /bin/cat cat
7103 stream tcp nowait nobody /bin/sh sh -c yes
# the end
"""
WRITTEN = """\
# Made by ucspid import from inetd.conf.
# As under inetd, descriptor 2 is the client's socket; with stderr: log, what is written there is
#   logged.
# The event loop runs as nobody: create a user nosuchuser, and add user: nosuchuser below.
control: /run/ucspid/control

defaults:
  user: nobody
  stderr: client
  max_connections: 1000
  on_full: refuse
  rate: 256/min

services:
  # Mail
  tcp-7101:
    listen: 7101
    program: [/bin/cat]

  # not now
  # 7102 stream tcp nowait nobody /bin/cat cat
  tcp-7103:
    listen: 7103
    program: [/bin/sh, -c, "yes"]

  # the end
"""


@pytest.fixture
def inetd(tmp_path: Path) -> Path:
    path = tmp_path / "inetd.conf"
    path.write_text(INETD)
    return path


def run(*arguments: str | Path) -> int:
    return main(["import", *map(str, arguments)])


def test_the_file_keeps_order_and_comments_and_passes_check(
    inetd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(collect, "LOOP_USER", "nosuchuser")
    assert run(inetd.name) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (WRITTEN, "")
    (tmp_path / "ucspid.yaml").write_text(out)
    assert [service.name for service in load(tmp_path / "ucspid.yaml").services] == ["tcp-7101", "tcp-7103"]


def test_what_has_no_equivalent_is_a_line_and_a_comment(
    inetd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inetd.write_text(INETD + "ntalk dgram udp wait nobody /bin/cat cat\n")
    assert run(inetd) == 2
    out, err = capsys.readouterr()
    assert err == f"{inetd}:8: dgram udp is not TCP; keep inetd for this service\n"
    assert f"# not imported: {err.strip()}" in out.replace("\n  #   ", " ")
    assert "  # ntalk:\n" in out
    assert set(yaml.safe_load(out)["services"]) == {"tcp-7101", "tcp-7103"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("7101 stream tcp nowait nobody /bin/cat cat", "7101 belongs to the service tcp-7101 already"),
        ("7104 stream tcp nowait nosuchuser /bin/cat cat", "there is no user nosuchuser"),
        ("7104 stream tcp nowait nobody.nosuch /bin/cat cat", "there is no group nosuch"),
        ("7104 stream tcp nowait nobody /no/such cat", "there is no program /no/such"),
        ("7104 stream tcp nowait nobody /bin/cat cat \udcff", "it has bytes that are not UTF-8"),
        ("no.such.host:7104 stream tcp nowait nobody /bin/cat cat", "no.such.host is a name, not an address"),
        ("no-such stream tcp nowait nobody /bin/cat cat", "no-such is not a TCP port that services(5) knows"),
        ("7104 stream tcp maybe nobody /bin/cat cat", "maybe is neither wait nor nowait"),
    ],
)
def test_a_service_that_could_not_run_is_a_comment(
    inetd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, why: str
) -> None:
    inetd.write_bytes((INETD + line + "\n").encode(errors="surrogateescape"))
    assert run(inetd) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"{inetd}:8: {why}; ")
    (tmp_path / "ucspid.yaml").write_text(out)
    assert len(load(tmp_path / "ucspid.yaml").services) == 2


def test_nothing_that_could_run_is_a_mistake(inetd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inetd.write_text("ntalk dgram udp wait nobody /bin/cat cat\n")
    assert run(inetd) == 100
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "why"), [(b"what is this\n", "not a configuration"), (b"a\0b", "a NUL byte")]
)
def test_a_file_of_no_known_kind(
    inetd: Path, capsys: pytest.CaptureFixture[str], content: bytes, why: str
) -> None:
    path = inetd.with_name("unknown")
    path.write_bytes(content)
    assert run(path) == 100
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(str(path))
    assert why in err


def test_no_terminal_obeys_what_is_printed(inetd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inetd.write_text(f"{INETD}7104 stream tcp nowait nobody /no\x1b[2J/such cat\x07\n# \x1b]0;x\x07\n")
    assert run(inetd) == 2
    out, err = capsys.readouterr()
    assert not {"\x1b", "\x07"} & set(out + err)
    assert "there is no program /no?[2J/such" in err


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none") == 111
    assert capsys.readouterr().err == f"ucspid: {tmp_path}/none: No such file or directory\n"


# The files of another host


def test_below_another_root_everything_is_looked_up_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("etc", "bin", "srv"):
        (tmp_path / folder).mkdir()
    (tmp_path / "etc/passwd").write_text("alice:x:2000:2000::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("alice:x:2000:\nstaff:x:2001:\n")
    (tmp_path / "etc/services").write_text("special 7777/tcp odd # a comment\n")
    (tmp_path / "etc/hosts").write_text("192.0.2.7 inside\n")
    (tmp_path / "srv/inetd.conf").write_text("inside:odd stream tcp nowait alice.staff /bin/prog prog\n")
    (tmp_path / "etc/inetd.conf").symlink_to("/srv/inetd.conf")
    (tmp_path / "bin/prog").touch(mode=0o755)
    assert run("--root", tmp_path, "/etc/inetd.conf") == 0
    service = yaml.safe_load(capsys.readouterr().out)["services"]["odd"]
    assert service["listen"] == "192.0.2.7:7777"
    assert (service["user"], service["group"]) == ("alice", "staff")


def test_no_link_leads_out_of_another_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("secret")
    for number, target in enumerate(["../secret", str(tmp_path / "secret"), "../../../../../../etc/passwd"]):
        (tmp_path / "root" / str(number)).symlink_to(target)
        with pytest.raises(FileNotFoundError):
            Host(str(tmp_path / "root")).read(f"/{number}")


def test_links_without_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for reader, path in ((Host(str(tmp_path)), "/a"), (Host(), str(tmp_path / "a"))):
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            reader.read(path)


# Bounds


def test_what_is_read_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MAX_FILE_BYTES", 10)
    monkeypatch.setattr(host, "MAX_TOTAL_BYTES", 25)
    monkeypatch.setattr(host, "MAX_FILES", 4)
    monkeypatch.setattr(host, "MAX_LINE", 8)
    (tmp_path / "long").write_bytes(b"x" * 11)
    (tmp_path / "right").write_bytes(b"x" * 10)
    with pytest.raises(ConfigError, match="larger than 10 bytes"):
        Host().read(str(tmp_path / "long"))
    with pytest.raises(ConfigError, match="longer than 8 characters"):
        Host().lines(str(tmp_path / "right"))
    reader = Host()
    for _ in range(2):
        reader.read(str(tmp_path / "right"))
    with pytest.raises(ConfigError, match="more than 25 bytes in all files"):
        reader.read(str(tmp_path / "right"))
    reader.entries(str(tmp_path))
    with pytest.raises(ConfigError, match="more than 4 files"):
        reader.entries(str(tmp_path))


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        Host().read(str(tmp_path / "fifo"))


def test_too_many_services(inetd: Path) -> None:
    inetd.write_text("7101 stream tcp nowait nobody /bin/cat cat\n" * (bounds.MAX_SERVICES + 1))
    with pytest.raises(
        ConfigError, match=f"{bounds.MAX_SERVICES + 1}: more than {bounds.MAX_SERVICES} services"
    ):
        import_paths([str(inetd)], Host())


FIELD = st.sampled_from(
    ["7101", "echo", "stream", "tcp", "nowait", "wait.5", "nowait/1/2/3", "nobody", "internal", "/bin/cat",
     "cat", "a:b", "::1:7", "*:9", "#", "é", "\udcff", "\x1b", "'", '"', "yes", "~",
     "0x10", "1:30", "- a", "{", "%", "@", "1e3"]
)  # fmt: skip
LINES = st.lists(st.lists(FIELD, max_size=9).map(" ".join), max_size=6).map("\n".join)


@settings(max_examples=examples(60), deadline=None)
@given(text=LINES)
def test_whatever_stands_in_it_the_result_is_read_as_it_was_meant(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "inetd.conf"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    written, description = import_paths([str(path)], Host())
    assert (written is None) == (not description.running())
    if written is not None:
        plan = yaml.load(written, yaml.BaseLoader)
        assert set(plan["services"]) == {service.name for service in description.running()}
        for service in description.running():
            assert plan["services"][service.name]["program"] == service.settings["program"]


# What services have in common


def services(*settings_: dict[str, object]) -> list[Imported]:
    return [Imported(str(number), SourceLine("f"), dict(item)) for number, item in enumerate(settings_)]


def test_what_most_services_say_is_a_default() -> None:
    made = services({"user": "a", "nice": 5}, {"user": "b", "nice": 5}, {"user": "a"})
    assert share(made) == {"user": "a"}
    assert [service.settings for service in made] == [{"nice": 5}, {"user": "b", "nice": 5}, {}]


def test_what_ucspid_has_anyway_is_left_out_but_where_a_default_is_another() -> None:
    made = services(
        {"on_full": "queue", "max_connections": 100},
        {"on_full": "queue", "max_connections": 40},
        {"on_full": "queue", "max_connections": 100},
    )
    assert share(made) == {"max_connections": 100}
    assert [service.settings for service in made] == [{}, {"max_connections": 40}, {}]


def test_rules_are_shared_as_a_whole() -> None:
    rule = AccessRule(allow=False, patterns=["10.0.0.0/8"])
    made = services({"rules": [rule]}, {"rules": [rule]})
    assert share(made) == {"rules": [rule]}


def test_what_has_a_place_in_the_file_is_a_setting() -> None:
    from ucspid.config.schema import ServiceSection  # noqa: PLC0415

    assert set(ORDER) <= set(ServiceSection.__struct_fields__)
