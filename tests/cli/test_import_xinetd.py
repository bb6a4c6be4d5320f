"""xinetd.conf: what each attribute becomes, and what has no equivalent."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tiers import examples
from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_DEPTH
from ucspid.importers.collect import import_paths
from ucspid.importers.host import Host
from ucspid.importers.xinetd_access import patterns

BASE = {
    "type": "UNLISTED", "socket_type": "stream", "protocol": "tcp", "wait": "no", "user": "nobody",
    "port": "7201", "server": "/bin/cat",
}  # fmt: skip


def entry(name: str = "it", **attributes: str) -> str:
    """Return an entry of a service; an attribute of no value is left out."""
    given_ = {key: value for key, value in {**BASE, **attributes}.items() if value}
    lines = "".join(f"  {key} = {value}\n" for key, value in given_.items())
    return f"service {name}\n{{\n{lines}}}\n"


def imported(folder: Path, text: str) -> tuple[dict[str, Any], list[str]]:
    """Return the services that would run, and what is noted, without places."""
    path = folder / "xinetd.conf"
    path.write_text(text)
    written, description = import_paths([str(path)], Host())
    for service in description.services:
        assert service.notes or service.name == "it" or written
    notes = [note.what for note in description.all_notes()]
    return (yaml.load(written, yaml.BaseLoader)["services"] if written else {}), notes


@pytest.mark.parametrize(
    ("attributes", "settings_"),
    [
        ({"bind": "192.0.2.1"}, {"listen": "192.0.2.1:7201"}),
        ({"bind": "::"}, {"listen": "7201"}),
        ({"v6only": "yes"}, {"listen": "[::]:7201"}),
        ({"flags": "IPv4 NODELAY KEEPALIVE REUSE"},
         {"listen": "0.0.0.0:7201", "nodelay": "yes", "keepalive": "yes"}),
        ({"instances": "5", "per_source": "2"},
         {"max_connections": "5", "max_per_ip": "2", "ipv6_prefix": "128"}),
        ({"instances": "UNLIMITED"}, {"max_connections": "1000", "on_full": "refuse", "rate": "50/s"}),
        ({"cps": "25 30"}, {"rate": "25/s"}),
        ({"nice": "-25"}, {"nice": "-20"}),
        ({"umask": "077"}, {"umask": "077"}),
        ({"user": "0", "group": "1"}, {"user": "0", "group": "1", "groups": []}),
        ({"passenv": "A B", "env": "C=d"}, {"inherit_env": ["A", "B"], "env": {"C": "d"}}),
        ({"rlimit_as": "1K", "rlimit_cpu": "UNLIMITED", "rlimit_data": "128M"},
         {"program": ["/usr/bin/prlimit", "--as=1024", "/bin/cat"],
          "rlimits": {"cpu": "infinity", "data": "128M"}}),
        ({"flags": "NAMEINARGS", "server_args": "dog -n"}, {"program": ["/bin/cat", "-n"], "argv0": "dog"}),
        ({"id": "Other Name"}, {}),
        ({"redirect": "192.0.2.1 25", "server": ""},
         {"forward": "192.0.2.1:25", "program": None, "stderr": None, "user": "nobody"}),
        ({"redirect": "mail.example.org smtp"}, {"forward": "mail.example.org:25", "program": None}),
        ({"redirect": "2001:db8::1 143"}, {"forward": "[2001:db8::1]:143"}),
        ({"only_from": "10.0.0.0 Host.example.org", "no_access": "10.1.2.3"},
         {"rules": [{"from": "10.1.2.3", "deny": "yes"},
                    {"from": ["10.0.0.0/8", "host.example.org"], "allow": "yes"}],
          "default_action": "deny", "lookup": {"remote_host": "yes"}}),
    ],
)  # fmt: skip
def test_attributes_become_settings(
    tmp_path: Path, attributes: dict[str, str], settings_: dict[str, Any]
) -> None:
    services, notes = imported(tmp_path, entry(**attributes))
    (service,) = services.values()
    assert notes == []
    assert {key: service.get(key) for key in settings_} == settings_


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"socket_type": "dgram", "protocol": "udp"}, "dgram udp is not TCP"),
        ({"wait": "yes"}, "wait = yes handed the listening socket to the server"),
        ({"wait": ""}, "there is no wait = no: xinetd does not start it"),
        ({"type": "RPC UNLISTED"}, "RPC services have no port of their own"),
        ({"type": "TCPMUX UNLISTED"}, "TCPMUX services have no port of their own"),
        ({"flags": "SENSOR"}, "SENSOR made the port a trap, whose clients all services refused"),
        ({"flags": "IDONLY"}, "IDONLY accepted only clients with an ident server"),
        ({"flags": "WHAT"}, "WHAT is no flag: xinetd does not start it"),
        ({"redirect": "192.0.2.1"}, "redirect = 192.0.2.1 is no host and port"),
        ({"redirect": "192.0.2.1 0"}, "redirect = 192.0.2.1 0 is no host and port"),
        ({"access_times": "08:00-17:00"}, "access_times allowed 08:00-17:00 only"),
        (
            {"no_access": "a_netw*rk"},
            "no_access names a_netw*rk, which is neither an address nor a host's name",
        ),
        ({"server": "/no/such"}, "there is no program /no/such"),
        ({"server": ""}, "there is no server: xinetd does not start it"),
        ({"user": ""}, "there is no user: xinetd does not start it"),
        ({"type": "INTERNAL UNLISTED"}, "it was a part of xinetd"),
        ({"instances": "0"}, "with instances = 0 xinetd accepts nobody"),
        ({"bind": "no.such.host"}, "no.such.host is a name, not an address"),
    ],
)
def test_a_service_that_needs_what_there_is_not_is_a_comment(
    tmp_path: Path, attributes: dict[str, str], what: str
) -> None:
    services, notes = imported(tmp_path, entry(**attributes) + entry("other", port="7202"))
    assert services.keys() == {"other"}
    assert notes == [what]


def test_hosts_allow_protects_what_is_passed_on_by_the_name_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "xinetd.conf").write_text(entry("web", redirect="192.0.2.1 80", server=""))
    (tmp_path / "hosts.allow").write_text("web: 10.0.0.1: deny\n")
    names = ("xinetd.conf", "hosts.allow")
    written, _ = import_paths([str(tmp_path / name) for name in names], Host())
    assert written is not None
    (service,) = yaml.load(written, yaml.BaseLoader)["services"].values()
    assert (service["forward"], service["rules"][0]["from"]) == ("192.0.2.1:80", "10.0.0.1")


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"max_load": "2.5"}, "max_load refused clients over a load of 2.5"),
        ({"banner_success": "/x"}, "banner_success sent /x before the server started"),
        ({"banner": "/no/such"}, "/no/such, which clients were sent, cannot be read: No such file"),
        (
            {"banner_fail": "/no/such"},
            "/no/such, which clients were sent, cannot be read: No such file",
        ),
        ({"deny_time": "5"}, "deny_time banned clients of a SENSOR"),
        ({"nice": "high"}, "nice = high is no number"),
        ({"rlimit_cpu": "much"}, "rlimit_cpu = much is no limit"),
        (
            {"only_from": "a_netw*rk"},
            "only_from names a_netw*rk, which is neither an address nor a host's name",
        ),
    ],
)
def test_a_service_goes_without_the_rest(tmp_path: Path, attributes: dict[str, str], what: str) -> None:
    services, notes = imported(tmp_path, entry(**attributes))
    assert services.keys() == {"it"}
    assert [note[: len(what)] for note in notes] == [what]


def test_what_is_off_is_a_comment_and_no_note(tmp_path: Path) -> None:
    on, off, out = (entry(name, port=f"720{number}") for number, name in enumerate(("on", "off", "out")))
    services, notes = imported(
        tmp_path, "defaults\n{\n enabled = on off\n}\n" + on + out + entry("x", disable="yes", wait="yes")
    )
    assert services.keys() == {"on"}
    assert notes == []
    services, notes = imported(
        tmp_path, "defaults\n{\n disabled = off\n disabled += out\n}\n" + on + off + out
    )
    assert services.keys() == {"on"}
    assert notes == []


def test_lines_that_xinetd_ignores_are_noted(tmp_path: Path) -> None:
    text = entry() + "include /no/such\n" + "service b\n{\n wait yes\n}\nwhat is this\n}\n"
    text += "service a {\n" + entry("swallowed") + entry("other", port="7202") + "service c\n{\n"
    services, notes = imported(tmp_path, text)
    assert services.keys() == {"it", "other"}
    assert notes == [
        "/no/such cannot be read: No such file or directory",
        "wait yes is not NAME = VALUE: xinetd ignores the entry",
        "what begins no entry: xinetd ignores all up to the next }",
        "service a { has no { on the next line: xinetd ignores it",
        "service c has no end: xinetd ignores it",
    ]


def test_files_that_include_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"included more than {MAX_DEPTH} levels deep"):
        imported(tmp_path, f"include {tmp_path}/xinetd.conf\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "loop").write_text(f"includedir {tmp_path}/d\n")
    with pytest.raises(ConfigError, match=f"included more than {MAX_DEPTH} levels deep"):
        imported(tmp_path, f"includedir {tmp_path}/d\n")


def test_a_directory_is_imported_as_such(tmp_path: Path) -> None:
    (tmp_path / "one").write_text(entry("one"))
    (tmp_path / "two").write_text("# Two\n" + entry("two", port="7202"))
    (tmp_path / "two~").write_text("not read")
    written, description = import_paths([str(tmp_path)], Host())
    assert written is not None
    assert [service.name for service in description.services] == ["one", "two"]
    assert "  # Two\n  two:\n" in written


@pytest.mark.parametrize(
    ("word", "networks"),
    [
        ("128.138.12.0", ["128.138.12.0/24"]),
        ("128.0.0.0", ["128.0.0.0/8"]),
        ("0.0.0.0", ["0.0.0.0/0"]),
        ("192.0.2.7", ["192.0.2.7"]),
        ("192.0.2.77/24", ["192.0.2.0/24"]),
        ("192.0.2.77/32", ["192.0.2.77"]),
        ("128.138.{12,14}", ["128.138.12.0/24", "128.138.14.0/24"]),
        ("2001:db8::1", ["2001:db8::1"]),
        ("2001:db8::1/32", ["2001:db8::/32"]),
        (".Example.org", [".example.org"]),
    ],
)
def test_forms_of_addresses(word: str, networks: list[str]) -> None:
    assert patterns(word) == networks


WORD = st.sampled_from(
    ["service", "defaults", "it", "{", "}", "=", "+=", "-=", "only_from", "no_access", "port", "7201", "#",
     "include", "10.0.0.0", "{1,2}", "1.{2,300}", "::/0", "x/y", "flags", "INTERNAL", "type", "cps", "é",
     "rlimit_as", "\udcff"]
)  # fmt: skip
LINE = st.lists(WORD, max_size=5).map(" ".join)
ENTRY = st.dictionaries(
    st.sampled_from(
        [*BASE, "only_from", "cps", "umask", "flags", "rlimit_as", "env", "server_args", "bind", "nice"]
    ),
    st.lists(WORD, max_size=3).map(" ".join),
    max_size=4,
).map(lambda attributes: entry("it", **attributes))  # fmt: skip


@settings(max_examples=examples(60), deadline=None)
@given(text=st.lists(st.one_of(LINE, ENTRY), max_size=6).map("\n".join))
def test_anything_is_imported_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "xinetd.conf"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    written, description = import_paths([str(path)], Host())
    if written is not None:
        services = yaml.load(written, yaml.BaseLoader)["services"]
        assert set(services) == {service.name for service in description.running()}
