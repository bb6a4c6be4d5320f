"""The lines of tcpserver, for what tests/conformance cannot bring about with the original."""

import os

import pytest

from ucspid.observe.log import configure
from ucspid.observe.transcript import NOT_A_PROCESS, LoggedEnds, Transcript
from ucspid.policy.client_facts import NO_FACTS, ClientFacts

ENDS = LoggedEnds(("192.0.2.1", 25), ("192.0.2.7", 40312), NO_FACTS)
PID = NOT_A_PROCESS + 1


class Written:
    """What a transcript has written."""

    def __init__(self, level: str = "info") -> None:
        self.text = b""
        self.transcript = Transcript(self._put, level)

    def _put(self, lines: bytes) -> None:
        self.text += lines

    @property
    def lines(self) -> list[str]:
        return self.text.decode().replace("tcpserver: ", "").splitlines()


def test_names_cannot_break_the_line() -> None:
    written = Written()
    found = ClientFacts(remote_host=bytes(range(256))[:90], local_host=b"a:b", info=b"%joe \xff")
    written.transcript.started(7, ENDS._replace(found=found))
    expected = bytes(byte if 33 <= byte <= 126 and byte not in b"%:" else 63 for byte in range(90)).decode()
    assert written.lines == [
        "pid 7 from 192.0.2.7",
        f"ok 7 a?b:192.0.2.1:25 {expected}:192.0.2.7:?joe??:40312",
    ]


def test_a_client_without_a_program_has_a_number_of_its_own() -> None:
    written = Written()
    written.transcript.refused(ENDS, "per_ip", (3, 40))
    written.transcript.refused(ENDS, "", (40, 40))
    assert written.lines == [
        "status: 4/40",
        f"pid {PID} from 192.0.2.7",
        f"deny {PID} :192.0.2.1:25 :192.0.2.7::40312 per_ip",
        f"end {PID} status 25600",
        "status: 3/40",
        "status: 40/40",
        f"pid {PID + 1} from 192.0.2.7",
        f"deny {PID + 1} :192.0.2.1:25 :192.0.2.7::40312",
        f"end {PID + 1} status 25600",
        "status: 40/40",
    ]


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", 5), ("info", 5), ("warning", 1), ("error", 1), ("none", 0)],
)
def test_levels_are_q_big_q_and_v(level: str, expected: int) -> None:
    written = Written(level)
    written.transcript.status(0, 40)
    written.transcript.not_started(0, ENDS if expected == 5 else None, "prog", 2, (0, 40))
    written.transcript.ended(5, 0, 0, 40)
    warning = ["warning: dropping connection, unable to run prog: file does not exist"]
    assert [line for line in written.lines if "warning" in line] == warning * bool(expected)
    assert (len(written.lines) > 1) == (expected == 5)


def test_a_program_that_is_found_missing_after_its_start_is_said_to_run_once() -> None:
    written = Written()
    written.transcript.started(5, ENDS)
    written.transcript.not_started(5, None, "prog", 13, (0, 40))
    assert [line.split()[0] for line in written.lines] == ["pid", "ok", "warning:", "end", "status:"]
    assert "end 5 status 28416" in written.lines


def test_without_tcpserver_only_connections_say_something() -> None:
    written = Written()
    written.transcript.go_on_alone()
    written.transcript.status(1, 40)
    written.transcript.started(5, ENDS)
    written.transcript.ended(5, 0, 0, 40)
    written.transcript.refused(ENDS, "", (0, 40))
    assert [line.split()[0] for line in written.lines] == ["pid", "ok", "pid", "deny"]


def logged(level: str) -> str:
    reader, writer = os.pipe()
    log = configure(writer, "tcpserver", level)
    log.logger.info("listening", service="smtp")
    log.logger.warning("connection_served", conn="1")
    log.logger.error("rules_load_failed", path="/rules", unusable="refuse")
    log.logger.error("accept_failed", service="smtp", reason="Too many\nopen files")
    log.logger.critical("master_lost")
    assert log.close(5)
    os.close(writer)
    with os.fdopen(reader) as file:
        return file.read()


def test_events_are_warnings_unless_there_are_lines_for_them() -> None:
    expected = "tcpserver: warning: accept_failed service=smtp reason='Too many\\nopen files'\n"
    assert logged("info") == logged("warning") == expected + "tcpserver: warning: master_lost\n"
    assert logged("none") == ""
