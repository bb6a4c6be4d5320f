"""What a client of rblsmtpd meets."""

from tool_programs import Ended

IP = {"TCPREMOTEIP": "192.0.2.7"}
PROGRAM = ("sh", "-c", "echo the program")


def outcome(ended: Ended) -> str:
    """Return "" if the program was run, otherwise what the client was refused with."""
    assert ended.code == 0
    if ended.out == b"the program\n":
        assert ended.err == b""
        return ""
    (line,) = ended.lines
    start, _, reason = line.partition(f" pid {ended.pid}: ")
    assert start == "rblsmtpd: 192.0.2.7"
    assert ended.out.decode("latin-1").splitlines()[1] == reason
    return reason
