"""Operators deny clients, in the event loop."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inprocess import Rig, received, serving, settings
from leaks import memory_traced
from proxy_headers import v1
from ucspid.control.bans import BanVerbs
from ucspid.errors import PeerError, ResourceError
from ucspid.ipc.ban_memory import SIZE, BanMemory
from ucspid.linux.memfd import sealed_memory
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Proxy
from ucspid.policy.bans import MAX_SECONDS


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = sealed_memory("bans", SIZE)
    yield descriptor
    os.close(descriptor)


def bans_of(rig: Rig, memory: int) -> BanVerbs:
    return BanVerbs(rig.server.services, BanMemory(memory), rig.log)


async def refused(rig: Rig, service: str = "s", source: str = "127.0.0.1") -> None:
    """Connect a client that must be denied."""
    before = rig.sessions(service).counts.refused["banned"]
    assert await received(rig.connect(service, source)) == b""
    assert rig.sessions(service).counts.refused["banned"] == before + 1


async def served(rig: Rig, service: str = "s", source: str = "127.0.0.1") -> None:
    client = rig.connect(service, source)
    launcher = rig.launchers[0]
    (connection,) = await rig.starts(1)
    launcher.started(connection)
    launcher.exited(connection)
    assert await received(client) == b""
    await rig.comes_true(lambda: not rig.server.services.live)


async def test_denied_clients_are_refused_and_others_are_not(memory: int) -> None:
    async with serving(settings("s"), settings("t")) as rig:
        bans = bans_of(rig, memory)
        ban = await bans.deny({"network": "127.0.0.0/30", "seconds": 600})
        assert (ban["network"], ban["service"], ban["renewed"]) == ("127.0.0.0/30", None, False)
        assert 590 < ban["left"] <= 600
        await refused(rig, "s")
        await refused(rig, "t")
        await served(rig, "s", "127.0.0.9")
        (one,) = (item for item in rig.named("connection_refused") if item["service"] == "s")
        assert (one["reason"], one["detail"]) == ("banned", "127.0.0.0/30")
        assert [item["network"] for item in (await bans.undeny({"network": "127.0.0.0/30"}))["ended"]] == [
            "127.0.0.0/30"
        ]
        await served(rig)
        assert [item["network"] for item in rig.named("client_denied")] == ["127.0.0.0/30"]
        assert [item["network"] for item in rig.named("client_undenied")] == ["127.0.0.0/30"]


async def test_bans_take_memory_when_there_are_some(memory: int) -> None:
    async with serving(settings("s")) as rig:
        with memory_traced() as taken:
            bans = bans_of(rig, memory)
            now, _peak = taken()
        assert now < 20_000
        assert (await bans.denied({}))["denied"] == []


async def test_one_service_denies_and_the_others_do_not(memory: int) -> None:
    async with serving(settings("s"), settings("t")) as rig:
        bans = bans_of(rig, memory)
        await bans.deny({"network": "127.0.0.1", "seconds": 600, "service": "t"})
        await refused(rig, "t")
        await served(rig, "s")
        rig.plan(settings("s"), settings("t", max_connections=7))
        await refused(rig, "t")
        assert (await bans.undeny({"network": "127.0.0.1", "service": "s"}))["ended"] == []
        await bans.deny({"network": "127.0.0.1", "seconds": 60})
        both = (await bans.denied({}))["denied"]
        assert [(item["network"], item["service"]) for item in both] == [
            ("127.0.0.1", None), ("127.0.0.1", "t"),
        ]  # fmt: skip
        assert len((await bans.undeny({"network": "127.0.0.1"}))["ended"]) == 2
        await served(rig, "t")


async def test_a_service_has_the_stage_only_while_somebody_is_denied(memory: int) -> None:
    async with serving(settings("s")) as rig:
        before = len(rig.service("s").pipeline.stages)
        bans = bans_of(rig, memory)
        await bans.deny({"network": "127.0.0.1", "seconds": 600})
        assert len(rig.service("s").pipeline.stages) == before + 1
        rig.plan(settings("s", max_connections=7), settings("new"))
        assert len(rig.service("new").pipeline.stages) == before + 1
        await bans.undeny({"network": "127.0.0.1"})
        assert len(rig.service("s").pipeline.stages) == before


async def test_a_ban_ends_by_itself(memory: int) -> None:
    async with serving(settings("s")) as rig:
        bans = bans_of(rig, memory)
        await bans.deny({"network": "127.0.0.1", "seconds": 0.001})
        await rig.until(lambda: rig.named("denial_ended"))
        assert await bans.denied({}) == {"denied": []}
        assert not rig.server.services.bans
        await served(rig)


async def test_the_next_loop_goes_on_with_the_bans(memory: int) -> None:
    async with serving(settings("s")) as rig:
        bans = bans_of(rig, memory)
        await bans.deny({"network": "127.0.0.1", "seconds": 600, "service": "s"})
        await bans.deny({"network": "192.0.2.0/24", "seconds": 500})
        await bans.deny({"network": "192.0.2.0/25", "seconds": 500})
        await bans.undeny({"network": "192.0.2.0/25"})
    rig = Rig()
    after = bans_of(rig, memory)
    rig.plan(settings("s"))
    assert [(item["network"], item["service"]) for item in (await after.denied({}))["denied"]] == [
        ("192.0.2.0/24", None), ("127.0.0.1", "s"),
    ]  # fmt: skip
    rig.launcher()
    rig.server.begin()
    await refused(rig)
    assert rig.named("bans_lost") == []
    rig.close()


async def test_a_user_who_comes_over_unix_sockets_is_denied(memory: int, tmp_path: Path) -> None:
    unix = settings("s", listen=(Endpoint(f"unix:{tmp_path}/s", 0),))
    own = f"unix:uid={os.geteuid()}"
    async with serving(unix, settings("t")) as rig:
        bans = bans_of(rig, memory)
        assert (await bans.deny({"network": own, "seconds": 600}))["network"] == own
        await refused(rig, "s")
        await served(rig, "t")
        assert rig.named("connection_refused")[0]["detail"] == own
        assert [item["network"] for item in (await bans_of(rig, memory).denied({}))["denied"]] == [own]
        assert [item["network"] for item in (await bans.undeny({"network": own}))["ended"]] == [own]
        await served(rig, "s")


async def test_who_is_denied_again_is_so_from_now_on(memory: int) -> None:
    async with serving(settings("s")) as rig:
        bans = bans_of(rig, memory)
        await bans.deny({"network": "127.0.0.1", "seconds": 600})
        assert (await bans.deny({"network": "127.0.0.1", "seconds": 5}))["renewed"]
        (one,) = (await bans.denied({}))["denied"]
        assert one["left"] <= 5
        await bans.undeny({"network": "127.0.0.1"})


async def test_of_a_balancers_clients_the_client_is_denied(memory: int) -> None:
    async with serving(settings("s", proxy=Proxy(from_=("127.0.0.1",)))) as rig:
        bans = bans_of(rig, memory)
        await bans.deny({"network": "192.0.2.7", "seconds": 600})
        client = rig.connect("s")
        client.sendall(v1("192.0.2.7", "198.51.100.1"))
        assert await received(client) == b""
        (one,) = rig.named("connection_refused")
        assert one["reason"] == "banned"
        assert one["remote"].startswith("192.0.2.7:")
        await bans.undeny({"network": "192.0.2.7"})


MANY = 300
"""That is enough to see that there may be no more: what has room for MAX_BANS has a test of its own."""


async def test_there_are_so_many_bans_and_no_more(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucspid.control.bans.MAX_BANS", MANY)
    async with serving(settings("s")) as rig:
        bans = bans_of(rig, memory)
        for number in range(MANY):
            await bans.deny({"network": f"10.0.{number >> 8}.{number & 255}", "seconds": 600})
        with pytest.raises(ResourceError, match=f"{MANY} networks"):
            await bans.deny({"network": "192.0.2.2", "seconds": 600})
        await bans.deny({"network": "10.0.0.0", "seconds": 600})
        await bans.undeny({"network": "10.0.0.0"})
        await bans.deny({"network": "127.0.0.1", "seconds": 600})
        assert len((await bans.denied({}))["denied"]) == MANY
        await refused(rig)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({}, "network and seconds"),
        ({"network": "192.0.2.1"}, "network and seconds"),
        ({"network": "192.0.2.1", "seconds": 1, "more": 1}, "network and seconds"),
        ({"network": "192.0.2.1/24", "seconds": 1}, "bits set"),
        ({"network": 7, "seconds": 1}, "an address or a network"),
        ({"network": "unix:", "seconds": 1}, "unix:uid=NUMBER"),
        ({"network": "unix:uid=1,gid=1", "seconds": 1}, "unix:uid=NUMBER"),
        ({"network": "192.0.2.1", "seconds": 0}, "a number above 0"),
        ({"network": "192.0.2.1", "seconds": True}, "a number above 0"),
        ({"network": "192.0.2.1", "seconds": "1"}, "a number above 0"),
        ({"network": "192.0.2.1", "seconds": MAX_SECONDS * 2}, "at most"),
        ({"network": "192.0.2.1", "seconds": 1, "service": "x"}, "there is no service 'x': s"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    memory: int, args: dict[str, object], why: str
) -> None:
    async with serving(settings("s")) as rig:
        bans = bans_of(rig, memory)
        with pytest.raises(PeerError, match=why):
            await bans.deny(args)
        for verb in (bans.undeny, bans.denied):
            with pytest.raises(PeerError, match="member"):
                await verb({"more": 1})
        assert not rig.server.services.bans
