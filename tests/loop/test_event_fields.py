"""What events say of a connection, with real clients: how it ended, or why it did not begin."""

import errno
import signal

import pytest

from inprocess import Rig, received, serving, settings
from ucspid.plan import RuleSpec


async def end_one(rig: Rig, status: int) -> None:
    """Have the launcher say that a client's program has ended with a wait status."""
    client = rig.connect("a")
    await rig.starts(1)
    (launcher,) = rig.launchers
    (connection,) = launcher.starts
    launcher.started(connection)
    launcher.exited(connection, status)
    await rig.until(lambda: rig.named("connection_served"))
    client.close()


@pytest.mark.parametrize(
    ("status", "level", "how", "count"),
    [
        (signal.SIGSEGV, "warning", {"signal": "SIGSEGV"}, "signal"),
        (signal.SIGPIPE, "info", {"signal": "SIGPIPE"}, "signal"),
        (40, "warning", {"signal": "40"}, "signal"),
        (127 << 8, "warning", {"status": 127}, "nonzero"),
        (111 << 8, "info", {"status": 111}, "nonzero"),
        (0, "info", {"status": 0}, "ok"),
        (-1, "info", {"status": "unknown"}, "unknown"),
    ],
)
async def test_how_a_program_ended_makes_the_level_of_the_event_and_a_count_of_its_own(
    status: int, level: str, how: dict[str, object], count: str
) -> None:
    async with serving(settings("a")) as rig:
        await end_one(rig, status)
        (event,) = rig.named("connection_served")
        assert event["level"] == level
        assert {key: event[key] for key in ("status", "signal") if key in event} == how
        counts = rig.sessions("a").counts
        assert (counts.ended, counts.served, counts.open) == ({count: 1}, 1, 0)


async def test_an_end_that_the_daemon_has_asked_for_is_no_fault() -> None:
    async with serving(settings("a")) as rig:
        rig.connect("a")
        (connection,) = await rig.starts(1)
        (launcher,) = rig.launchers
        launcher.started(connection)
        await rig.until(lambda: rig.named("connection_started"))
        rig.sessions("a").end_all()
        await rig.until(lambda: launcher.signals)
        launcher.exited(connection, signal.SIGTERM)
        await rig.until(lambda: rig.named("connection_served"))
        (event,) = rig.named("connection_served")
        assert (event["level"], event["signal"]) == ("info", "SIGTERM")
        assert rig.sessions("a").counts.ended == {"ended": 1}


async def test_a_start_that_failed_names_the_file() -> None:
    async with serving(settings("a", executable="/usr/bin/absent")) as rig:
        rig.connect("a")
        (connection,) = await rig.starts(1)
        rig.launchers[0].failed(connection, errno.ENOENT)
        await rig.until(lambda: rig.named("connection_failed"))
        (event,) = rig.named("connection_failed")
        assert (event["file"], event["reason"]) == ("/usr/bin/absent", "No such file or directory")


async def test_a_client_that_a_rule_denies_is_logged_with_the_rule() -> None:
    rule = RuleSpec(
        from_=("127.0.0.2",), verdict="deny", env=(), max_per_ip=None, rate_per_ip=None, message=None,
        where="ucspid.yaml:12",
    )  # fmt: skip
    async with serving(settings("a", rules=(rule,))) as rig:
        assert await received(rig.connect("a", "127.0.0.2")) == b""
        (event,) = rig.named("connection_refused")
        assert (event["reason"], event["rule"]) == ("denied", "ucspid.yaml:12")


async def test_a_client_over_its_limit_is_logged_with_the_limit_and_its_network() -> None:
    async with serving(settings("a", max_per_ip=1, ipv4_prefix=24)) as rig:
        rig.connect("a", "127.0.0.1")
        (connection,) = await rig.starts(1)
        assert await received(rig.connect("a", "127.0.0.2")) == b""
        (event,) = rig.named("connection_refused")
        assert (event["reason"], event["client"], event["allowed"]) == ("per_ip", "127.0.0.0/24", 1)
        rig.launchers[0].failed(connection)
        await rig.until(lambda: rig.named("connection_failed"))


async def test_a_drain_says_how_long_it_may_take_and_how_to_shorten_it() -> None:
    async with serving(settings("a", drain_timeout=7.0), settings("b", drain_timeout=70.0)) as rig:
        rig.server.drain(at_once=False)
        (event,) = rig.named("draining")
        assert (event["live"], event["timeout"]) == (0, 70.0)
        assert event["hint"] == "a second SIGTERM ends the sessions now"


async def test_the_last_failure_of_each_kind_is_kept_with_its_client() -> None:
    async with serving(settings("a", executable="/usr/bin/absent")) as rig:
        for status in (111 << 8, signal.SIGSEGV, signal.SIGBUS, 0):
            rig.events.clear()
            await end_one(rig, status)
        client = rig.connect("a")
        (number,) = await rig.starts(1)
        rig.launchers[0].failed(number, errno.ENOENT)
        await rig.until(lambda: rig.named("connection_failed"))
        failures = rig.service("a").sessions.failures.items()
        assert [(kind, failure.what) for kind, failure in failures] == [
            ("failed", "No such file or directory: /usr/bin/absent"),
            ("signal", "signal SIGBUS"),
            ("nonzero", "exit status 111"),
        ]
        ip, port = client.getsockname()
        assert (failures[0][1].remote, failures[0][1].connection) == (f"{ip}:{port}", number)
