"""The bench's TLS cases: that clients and servers do what they are asked for, and that figures are theirs."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import measure
from bench.build import CannotBuildError, Programs, build
from bench.cases.tls import tls_resumed
from bench.contest import Settings
from bench.load import BadLoadError
from bench.server import Workload
from bench.tls_clients import NAME, Place, hold, shake_hands, tls_clients
from bench.tls_peers import Behind, Stunnel, backend, certificate


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """Return a folder that the services' users may look into, as pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def programs(files: Path) -> Programs:
    try:
        return build(files)
    except CannotBuildError as problem:
        pytest.skip(str(problem))


def test_resumed_handshakes_are_compared_and_those_of_the_subject_are_resumed(
    programs: Programs, files: Path
) -> None:
    result = tls_resumed(Settings(programs, files, 1, short=True))
    (figures,) = result.values["ucspid"]
    assert figures.keys() == {"handshakes/s", "CPU µs", "CPU µs of all"}
    assert 0 < figures["CPU µs"] < figures["CPU µs of all"]
    assert result.values.keys() | result.absent.keys() == {"ucspid", "stunnel", "hitch", "haproxy"}


def test_the_time_of_threads_that_have_ended_counts(programs: Programs, files: Path) -> None:
    pem = certificate(files, NAME, "rsa")
    with backend(programs.tls, files) as port, tls_clients(1) as clients:
        peer = Stunnel(Behind(pem, port))
        if (reason := peer.absent()) is not None:
            pytest.skip(reason)
        with peer.start(Workload(program=(), files=files)) as server:
            (shaken,) = clients.each(shake_hands, Place(server.port, str(pem)), 50, resume=False)
            assert (shaken.count, shaken.resumed) == (50, 0)
            assert measure.cpu_of(server.pids()) > 0.02


def test_a_tls_client_that_is_not_served_is_a_bad_load(files: Path) -> None:
    pem = certificate(files, NAME, "ec")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tls_clients(1) as clients, pytest.raises(BadLoadError, match="a TLS client failed"):
        clients.each(hold, Place(port, str(pem)), 1)
