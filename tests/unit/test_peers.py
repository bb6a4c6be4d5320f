import pytest

import peers


@pytest.fixture(autouse=True)
def no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_PATH", "")


def test_a_missing_peer_skips_and_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "REQUIRED", False)
    with pytest.raises(pytest.skip.Exception, match=r"tcpserver .*: ucspi-tcp\)"):
        peers.require("tcpserver")


def test_a_missing_peer_fails_where_peers_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "REQUIRED", True)
    with pytest.raises(pytest.fail.Exception, match="swaks is not installed"):
        peers.require("swaks")
