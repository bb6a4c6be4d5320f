import contextlib
import pathlib
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.config.endpoints import ClientNetwork, Listen
from ucspid.config.forms import (
    Account,
    Descriptors,
    Duration,
    EnvName,
    Form,
    Frequency,
    Lifetime,
    Limit,
    MemorySize,
    Message,
    Misfit,
    Path,
    ProgramText,
    ServiceName,
    Size,
    StackSize,
    Umask,
)
from ucspid.config.positions import read
from ucspid.config.problems import Problems
from ucspid.config.ruleforms import LocalHost, RulesPath
from ucspid.config.shapes import Formed
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Rate

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.from_regex(r"\A[0-9\[\]:.*/a-z]{0,20}\Z"),
)
FORMS = [
    Account, ClientNetwork, Descriptors, Duration, EnvName, Frequency, Lifetime, Limit, Listen, MemorySize,
    Message, Path, ServiceName, Size, StackSize, ProgramText, Umask,
]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0),
        ("5", 5),
        ("1.5", 1.5),
        ("0.00001", 0.00001),
        ("500ms", 0.5),
        ("5s", 5),
        ("0.5s", 0.5),
        ("2min", 120),
        ("2m", 120),
        ("1h", 3600),
        ("1d", 86400),
        ("30d", 2592000),
    ],
)
def test_a_time_is_seconds_or_has_a_unit(written: str | float | None, seconds: float) -> None:
    assert Duration.parse(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "-1",
        "-1s",
        "5x",
        "",
        "s",
        "1 h",
        "1h30m",
        "31d",
        "1e3",
        ".inf",
        ".nan",
        "12:30",
        "+1",
        "yes",
        None,
        "5\n",
    ],
)
def test_anything_else_is_no_time(written: str | float | None) -> None:
    with pytest.raises(Misfit):
        Duration.parse(written)


def test_a_lifetime_is_at_least_a_second() -> None:
    assert float(Lifetime.parse("1s")) == 1
    with pytest.raises(Misfit):
        Lifetime.parse("999ms")


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64k", 65536),
        ("100M", 104857600),
        ("1G", 1 << 30),
        ("infinity", None),
    ],
)
def test_a_size_is_bytes_or_has_a_suffix(written: str | int, number: int | None) -> None:
    assert Size.parse(written).value == number


@pytest.mark.parametrize(
    "written", ["-1", "1.5", "1_000", "0x10", "1K", "1T", "k", "", "unlimited", "yes", None, str(1 << 63)]
)
def test_anything_else_is_no_size(written: str | float | None) -> None:
    with pytest.raises(Misfit):
        Size.parse(written)


@pytest.mark.parametrize(
    ("form", "least"), [(Limit, 0), (Descriptors, 64), (StackSize, 1 << 20), (MemorySize, 64 << 20)]
)
def test_a_limit_has_a_least_value(form: type[Limit], least: int) -> None:
    assert form.parse(str(least)).value == least
    assert form.parse("infinity").value is None
    with pytest.raises(Misfit):
        form.parse(str(least - 1))


def test_only_sizes_have_suffixes() -> None:
    with pytest.raises(Misfit):
        Limit.parse("1k")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("60/s", 1),
        ("60/sec", 1),
        ("60/min", 60),
        ("60/h", 3600),
        ("60/hour", 3600),
        ("60/d", 86400),
        ("60/day", 86400),
    ],
)
def test_a_rate_is_a_count_in_a_period(written: str | float | None, seconds: float) -> None:
    assert Frequency.parse(written).bucket(None) == Rate(count=60, seconds=seconds, burst=60)
    assert Frequency.parse(written).bucket(5) == Rate(count=60, seconds=seconds, burst=5)


@pytest.mark.parametrize("written", ["60", "0/s", "1000001/s", "60/week", "60 / min", "-1/s", "1.5/s", None])
def test_anything_else_is_no_rate(written: str | float | None) -> None:
    with pytest.raises(Misfit):
        Frequency.parse(written)


@pytest.mark.parametrize(
    ("written", "mask"),
    [("022", 0o022), ("0", 0), ("00", 0), ("0777", 0o777), ("077", 0o077), ("027", 0o027)],
)
def test_a_umask_is_octal(written: str | float | None, mask: int) -> None:
    assert Umask.parse(written) == mask


@pytest.mark.parametrize("written", ["22", "18", "0o22", "01777", "08", "", "yes", None])
def test_a_umask_that_could_be_decimal_is_refused(written: str | float | None) -> None:
    with pytest.raises(Misfit):
        Umask.parse(written)


@pytest.mark.parametrize("mask", ["022", "077", "0777"])
def test_a_umask_is_shown_as_it_is_written(mask: str) -> None:
    assert str(Umask.parse(mask)) == mask


@pytest.mark.parametrize(
    ("written", "endpoint"),
    [
        (25, Endpoint("", 25)),
        (0, Endpoint("", 0)),
        ("25", Endpoint("", 25)),
        ("*:25", Endpoint("", 25)),
        ("0.0.0.0:65535", Endpoint("0.0.0.0", 65535)),
        ("[::1]:25", Endpoint("::1", 25)),
        ("[0:0::0:1]:110", Endpoint("::1", 110)),
        ("[::]:0", Endpoint("::", 0)),
    ],
)
def test_where_to_listen(written: str | float | None, endpoint: Endpoint) -> None:
    assert Listen.parse(written).endpoint == endpoint


@pytest.mark.parametrize(
    ("written", "endpoint"),
    [
        ("smtp", Endpoint("", 25)),
        ("*:smtp", Endpoint("", 25)),
        ("127.0.0.1:smtp", Endpoint("127.0.0.1", 25)),
        ("[::1]:pop3", Endpoint("::1", 110)),
    ],
)
@pytest.mark.skipif(
    not pathlib.Path("/etc/services").exists(), reason="the system has no services(5): install netbase"
)
def test_a_port_can_be_a_name_of_services(written: str, endpoint: Endpoint) -> None:
    assert Listen.parse(written).endpoint == endpoint


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_with_a_port_is_read_back_from_its_text(
    ip: IPv4Address | IPv6Address, port: int
) -> None:
    mapped = ip.version == 6 and ip.ipv4_mapped
    written = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    if mapped:
        with pytest.raises(Misfit, match=str(mapped)):
            Listen.parse(written)
    else:
        endpoint = Listen.parse(written).endpoint
        assert (ip_address(endpoint.host), endpoint.port) == (ip, port)
        assert Listen.parse(str(endpoint)).endpoint == endpoint


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:DB8::/32", "2001:db8::/32"),
    ],
)
def test_a_network_is_an_address_with_or_without_a_prefix(written: str | float | None, network: str) -> None:
    assert ClientNetwork.parse(written) == network


def test_bits_behind_the_prefix_are_refused_with_the_network_meant() -> None:
    with pytest.raises(Misfit, match=r"10\.0\.0\.0/8 or 10\.1\.2\.3\?"):
        ClientNetwork.parse("10.1.2.3/8")


def test_a_message_is_bounded_in_bytes() -> None:
    assert Message.parse("é" * 256) == "é" * 256
    with pytest.raises(Misfit, match="514 bytes"):
        Message.parse("é" * 257)


@pytest.mark.parametrize(
    ("written", "value"),
    [("0", 0), (str((1 << 32) - 2), (1 << 32) - 2), ("nobody", "nobody"), ("007", "007")],
)
def test_an_account_is_a_name_or_a_number(written: str, value: str | int) -> None:
    assert Account.parse(written).value == value


@pytest.mark.parametrize("written", ["-1", str((1 << 32) - 1), "", "a\0", "-x", None])
def test_anything_else_is_no_account(written: str | None) -> None:
    with pytest.raises(Misfit):
        Account.parse(written)


# What stands in the file, and not what YAML 1.1 makes of it

COERCED = [
    "-0", "0", "007", "0x10", "0o10", "0b1", "+1", "1_000", "1.50", "1.0", "-0.0", ".5", "5.", "1e3", "12:30",
    "190:20:30", "2024-01-01", "2024-01-01T10:00:00Z", ".inf", "-.INF", ".NaN",
    "yes", "No", "ON", "off", "true", "False", "y", "n", "=", "<<", "10000000000000000000000",
]  # fmt: skip
NULLS = ["~", "null", "Null", "NULL"]


def converted(form: type[Form], written: str) -> tuple[Any, list[str]]:
    problems = Problems()
    root = read(f"- {written}\n".encode(), problems)
    assert root is not None
    assert isinstance(root.value, list)
    value = Formed(form).convert(root.value[0], "", problems)
    return value, problems.lines("f")


@pytest.mark.parametrize("written", [*COERCED, *NULLS])
def test_text_is_what_stands_in_the_file(written: str) -> None:
    assert converted(ProgramText, written) == (written, [])


@pytest.mark.parametrize("form", [Path, Message, EnvName, RulesPath])
@pytest.mark.parametrize("written", COERCED)
def test_paths_messages_and_names_are_what_stands_in_the_file(form: type[Form], written: str) -> None:
    if form is not EnvName or "=" not in written:
        assert converted(form, written) == (written, [])


@pytest.mark.parametrize("written", ["-0", "007", "1.50", "12:30", "1e3"])
def test_a_host_name_is_what_stands_in_the_file(written: str) -> None:
    name, problems = converted(LocalHost, written)
    if "." in written:
        assert problems == ["f:1:1: expected a name, yes (look it up) or no, found the number 1.50: quote it"]
    else:
        assert name.name == written


@pytest.mark.parametrize("form", [ProgramText, Path, Message, EnvName])
def test_nothing_at_all_is_no_text(form: type[Form]) -> None:
    _, problems = converted(form, "")
    assert problems == [f"f:1:1: expected {form.expects}, found nothing (null)"]


@pytest.mark.parametrize("form", [Path, Message, EnvName, Account])
@pytest.mark.parametrize("written", NULLS)
def test_null_is_a_word_for_programs_only(form: type[Form], written: str) -> None:
    _, problems = converted(form, written)
    assert problems == [f"f:1:1: expected {form.expects}, found nothing (null)"]


@pytest.mark.parametrize("form", FORMS)
@given(SCALARS)
def test_no_scalar_makes_a_form_fail_otherwise(form: type[Form], value: Any) -> None:
    with contextlib.suppress(Misfit):
        form.parse(value)
