"""The pure parts of the tools, compared with naive models in all combinations."""

import contextlib
import itertools
import socket

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tiers import examples
from ucspid.tools import domain
from ucspid.tools.crlf import AddCr, DelCr, FixCr
from ucspid.tools.http import Body
from ucspid.tools.ident import MAX_BYTES, IdentAnswer
from ucspid.tools.options import WRONG, Options, digits, ipv4, number
from ucspid.tools.qualify import candidates, rewrite
from ucspid.tools.rblsmtpd import BOUNCE, REFUSE, Commands, Decision, reverse
from ucspid.tools.recordio import lines
from ucspid.tools.tcpclient import LETTERS
from ucspid.tools.visible import Visible

BYTES = st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\r\n"]), max_size=12).map(b"".join)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return data cut at some places, empty pieces included."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


# options


def naive_getopt(argv: list[bytes], letters: str) -> tuple[list[tuple[str, bytes]], list[bytes]]:
    """Return the options, up to the first wrong one, and the rest; one character after the other."""
    found: list[tuple[str, bytes]] = []
    words = argv[1:]
    while words and words[0][:1] == b"-" and words[0] != b"-":
        word = words.pop(0)
        if word == b"--":
            break
        rest = word[1:]
        while rest:
            letter, rest = chr(rest[0]), rest[1:]
            place = letters.replace(":", "\0").find(letter) if letter != "\0" else -1
            if place < 0:
                return [*found, (WRONG, b"")], []
            if letters[place + 1 : place + 2] == ":":
                if not rest and not words:
                    return [*found, (WRONG, b"")], []
                found.append((letter, rest or words.pop(0)))
                rest = b""
            else:
                found.append((letter, b""))
    return found, words


WORD = st.one_of(
    st.sampled_from([b"-", b"--", b"", b"x", b"-x-", b"---"]),
    st.text(alphabet="rRpTl0-:9xé", max_size=4).map(lambda text: b"-" + text.encode("latin-1")),
)


@settings(max_examples=examples(500))
@given(st.lists(WORD, max_size=5))
@example([b"-R", b"-p"])
@example([b"-Rp", b"--", b"x"])
def test_options(words: list[bytes]) -> None:
    options = Options([b"tool", *words], LETTERS)
    found = []
    for letter, value in options:
        found.append((letter, value))
        if letter == WRONG:
            break
    expected, rest = naive_getopt([b"tool", *words], LETTERS)
    assert found == expected
    if WRONG not in dict(found):
        assert options.rest == rest


def test_an_option_may_be_acted_upon_before_the_next_is_read(capfd: pytest.CaptureFixture[str]) -> None:
    options = iter(Options([b"/a/tool", b"-az"], "a"))
    assert next(options) == ("a", b"")
    assert capfd.readouterr().err == ""
    assert next(options) == (WRONG, b"")
    assert capfd.readouterr().err == "tool: illegal option -- z\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"", 0),
        (b"x1", 0),
        (b"-1", 0),
        (b"12x", 12),
        (b"007", 7),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 0),
        (b"9" * 5000, (10**5000 - 1) % 2**64),
    ],
    ids=range(8),
)
def test_numbers(text: bytes, value: int) -> None:
    assert number(text) == value
    assert text[: digits(text)] == text[: len(text) - len(text.lstrip(b"0123456789"))]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (b"1.2.3.4", (bytes([1, 2, 3, 4]), b"")),
        (b"1.2.3.4.5", (bytes([1, 2, 3, 4]), b".5")),
        (b"257.02.3.4x", (bytes([1, 2, 3, 4]), b"x")),
        (b"1.2.3", None),
        (b"1.2.3.", None),
        (b"1..2.3", None),
        (b"", None),
        (b" 1.2.3.4", None),
    ],
    ids=str,
)
def test_addresses(text: bytes, address: tuple[bytes, bytes] | None) -> None:
    assert ipv4(text) == address


# line ends


def naive_fix(data: bytes) -> bytes:
    return b"".join(
        b"\r\n" if byte == b"\n" and data[place - 1 : place] != b"\r" else byte
        for place, byte in enumerate(bytes((byte,)) for byte in data)
    )


@settings(max_examples=examples(500))
@given(BYTES, st.lists(st.integers(0, 30), max_size=6))
def test_line_ends_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    add, delete, fix = AddCr(), DelCr(), FixCr()
    parts = pieces(data, cuts)
    assert b"".join(map(add.feed, parts)) + add.finish() == data.replace(b"\n", b"\r\n")
    assert b"".join(map(delete.feed, parts)) + delete.finish() == data.replace(b"\r\n", b"\n")
    assert b"".join(map(fix.feed, parts)) == naive_fix(data)


def naive_body(data: bytes) -> bytes:
    """Return what awk '/^$/ { body=1; next } { if (body) print }' prints."""
    whole = data.split(b"\n")
    if not whole[-1]:
        whole.pop()
    body, shown = False, b""
    for line in whole:
        if not line:
            body = True
        elif body:
            shown += line + b"\n"
    return shown


@settings(max_examples=examples(300))
@given(BYTES, st.lists(st.integers(0, 30), max_size=6))
def test_the_body_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    body = Body()
    assert b"".join(map(body.feed, pieces(data, cuts))) + body.finish() == naive_body(data)


def test_visible_bytes() -> None:
    shown = Visible()
    assert shown.feed(b"a\t\n\0\x1b\x7f") == b"a\t\n^@^[^?"
    assert shown.feed(b"\x80\x8a\xa0\xff\xe9") == b"M-^@M-^JM- M-^?M-i"
    assert shown.finish() == b""


@settings(max_examples=examples(100))
@given(BYTES.filter(bool))
def test_recorded_lines(data: bytes) -> None:
    printed = lines(b"1 < ", data)
    assert printed.endswith(b"\n")
    parts = [line.removeprefix(b"1 < ") for line in printed.split(b"\n")[:-1]]
    assert b"".join(part[:-1] + b"\n" * (part[-1:] == b" ") for part in parts) == data
    assert all(part[-1:] == b" " for part in parts[:-1])


# names


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        (b"", b"\0"),
        (b"a.bc", b"\1a\2bc\0"),
        (b"a..b.", b"\1a\1b\0"),
        (b"\\141\\.b\\0c", b"\5a.b\0c\0"),
        (b"a\\", b"\1a\0"),
        (b"\\777", b"\1\xff\0"),
        (b"x" * 63, b"\x3f" + b"x" * 63 + b"\0"),
        (
            b".".join([b"x" * 63] * 3 + [b"y" * 61]),
            b"\x3f" + b"\x3f".join([b"x" * 63] * 3) + b"\x3d" + b"y" * 61 + b"\0",
        ),
        (b"x" * 64, None),
        (b".".join([b"x" * 63] * 4), None),
    ],
    ids=range(10),
)
def test_names_become_packets(text: bytes, wire: bytes | None) -> None:
    if wire is None:
        with pytest.raises(OSError, match="malformed"):
            domain.encode(text)
    else:
        assert domain.encode(text) == wire


@pytest.mark.parametrize(
    ("wire", "text"),
    [(b"\0", b"."), (b"\1A\2bC\0", b"a.bc"), (b"\4a.b \0", b"a\\056b\\040"), (b"\2\xff_\0", b"\\377_")],
)
def test_packets_become_names(wire: bytes, text: bytes) -> None:
    assert domain.decode(wire) == text


def test_reverse_names() -> None:
    assert domain.decode(domain.reverse(bytes([192, 0, 2, 7]))) == b"7.2.0.192.in-addr.arpa"
    address = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    expected = dns.name.from_text("7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.")
    assert domain.reverse(address) == expected.to_wire()


def reply(name: str, *answers: tuple[str, str, str]) -> tuple[bytes, bytes]:
    """Return a question and a reply to it, by a library that knows how."""
    question = dns.message.make_query(name, answers[0][1] if answers else "A")
    response = dns.message.make_response(question)
    for owner, kind, text in answers:
        response.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, text))
    return question.to_wire(), response.to_wire()


def test_replies() -> None:
    question, packet = reply("x.test.", ("x.test.", "CNAME", "y.test."), ("y.test.", "A", "192.0.2.7"))
    assert domain.answers_to(packet, question)
    assert domain.addresses(packet, domain.A) == [bytes([192, 0, 2, 7])]
    assert domain.addresses(packet, domain.AAAA) == []
    _question, packet = reply("x.test.", ("x.test.", "AAAA", "2001:db8::7"))
    assert domain.addresses(packet, domain.AAAA) == [socket.inet_pton(socket.AF_INET6, "2001:db8::7")]
    _question, packet = reply("x.test.", ("x.test.", "PTR", "A.b.test."), ("x.test.", "PTR", "c.test."))
    assert domain.first_name(packet) == b"a.b.test"
    _question, packet = reply("x.test.", ("x.test.", "TXT", '"a" "b\\009c"'), ("x.test.", "TXT", '"d\\200"'))
    assert domain.texts(packet) == b"ab?cd?"
    question, packet = reply("x.test.")
    assert (domain.addresses(packet, domain.A), domain.first_name(packet), domain.texts(packet)) == (
        [],
        b"",
        b"",
    )


def test_what_is_no_reply() -> None:
    question, packet = reply("x.test.", ("x.test.", "A", "192.0.2.7"))
    assert domain.answers_to(packet.replace(b"\1x", b"\1X"), question), "letters of either case"
    assert not domain.answers_to(bytes([packet[0] ^ 1]) + packet[1:], question)
    assert not domain.answers_to(packet.replace(b"\4test", b"\4text"), question)
    other, _packet = reply("x.test.", ("x.test.", "AAAA", "2001:db8::7"))
    assert not domain.answers_to(packet, packet[:2] + other[2:])
    assert not domain.answers_to(b"", question)


@settings(max_examples=examples(300))
@given(st.data())
def test_garbage_is_refused_or_read(data: st.DataObject) -> None:
    """Nothing but OSError comes of any packet."""
    _question, packet = reply("x.test.", ("x.test.", "PTR", "a.b.test."), ("x.test.", "TXT", '"abc"'))
    changed = bytearray(packet)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(packet) - 1))] = data.draw(
            st.sampled_from([0, 1, 12, 63, 64, 192, 255])
        )
    cut = bytes(changed[: data.draw(st.integers(12, len(packet)))])
    for read in (domain.first_name, domain.texts, lambda packet: domain.addresses(packet, domain.A)):
        with contextlib.suppress(OSError):
            read(cut)


def test_a_name_that_points_to_itself_ends() -> None:
    with pytest.raises(OSError, match="malformed"):
        domain.read_name(bytes(12) + b"\xc0\x0c", 12)


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        (b"192.0.2.7", [bytes([192, 0, 2, 7])]),
        (b"[192.0.2.7]", [bytes([192, 0, 2, 7])]),
        (b"448.0.2.7", [bytes([192, 0, 2, 7])]),
        (b"1.2.3.4.5.6.7.8", [bytes([1, 2, 3, 4]), bytes([5, 6, 7, 8])]),
        (b"1.2.3", []),
        (b"", []),
        (b"1.2.3.4.5", [bytes([1, 2, 3, 4])]),
        (b"1.2.3.x", None),
        (b"a", None),
    ],
    ids=str,
)
def test_names_that_are_addresses(name: bytes, addresses: list[bytes] | None) -> None:
    assert domain.literal(name) == addresses


@pytest.mark.parametrize(
    ("name", "rule", "after"),
    [
        (b"a", b"?:.b", b"a.b"),
        (b"a.c", b"?:.b", b"a.c"),
        (b"[1]", b"?:.b", b"[1]"),
        (b"a.", b"*.:", b"a"),
        (b"me", b"=ME:127.0.0.1", b"127.0.0.1"),
        (b"xme", b"=me:127.0.0.1", b"xme"),
        (b"x.local", b"-.local:y", b"y"),
        (b"x.A", b"*.a:.af.mil", b"x.af.mil"),
        (b"a", b"# a comment", b"a"),
        (b"a", b"?nocolon", b"a"),
        (b"a", b"", b"a"),
    ],
    ids=str,
)
def test_rewriting(name: bytes, rule: bytes, after: bytes) -> None:
    assert rewrite(name, rule) == after


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (b"a", [b"a.x", b"a.y"]),
        (b"a.b", [b"a.b"]),
        (b"a.b.", [b"a.b"]),
        (b"a+b", [b"ab", b"a.x", b"a.y"]),
        (b"a.+", [b"a."]),
    ],
    ids=str,
)
def test_names_that_may_be_meant(name: bytes, meant: list[bytes]) -> None:
    assert list(candidates(name, [b"?:+.x+.y", b"*.:"])) == meant


# ident and rblsmtpd


@settings(max_examples=examples(200))
@given(st.lists(st.integers(0, 40), max_size=6))
def test_an_ident_answer_in_any_pieces(cuts: list[int]) -> None:
    answer = IdentAnswer()
    for piece in pieces(b"25 , 1 : USERID : UNIX : m e\t:x\r\nmore\n", cuts):
        answer.feed(piece)
    assert (answer.name, answer.complete) == (b"me:x", True)


@pytest.mark.parametrize(
    ("data", "name", "complete"),
    [
        (b"1,2:ERROR:NO-USER\r\n", b"", True),
        (b"\n", b"", True),
        (b"1:2:3:me", b"me", False),
        (b":::" + b"x" * 256, b"x" * 256, False),
        (b":::" + b"x" * 400, b"x" * MAX_BYTES, True),
        (b":::\0\xff\n", b"\0\xff", True),
    ],
    ids=range(6),
)
def test_ident_answers(data: bytes, name: bytes, complete: bool) -> None:
    answer = IdentAnswer()
    answer.feed(data)
    assert (answer.name, answer.complete) == (name, complete)


@settings(max_examples=examples(200))
@given(st.lists(st.integers(0, 80), max_size=6))
def test_commands_in_any_pieces(cuts: list[int]) -> None:
    commands = Commands()
    data = b"EHLO x\r\nmail from:<>\n\nQUIT\r\n\r\nquit\0\n" + b"x" * 10 + b" quit\nrest"
    verbs = [verb for piece in pieces(data, cuts) for verb in commands.feed(piece)]
    assert verbs == [b"ehlo", b"mail", b"", b"quit", b"", b"quit\0", b"x" * 10]


def test_a_command_without_end_takes_no_memory() -> None:
    commands = Commands()
    for _ in range(1000):
        assert commands.feed(b"x" * 512) == []
    assert [len(verb) < 2000 for verb in commands.feed(b"\nquit\n")] == [True, True]


@pytest.mark.parametrize(
    ("ip", "before"),
    [
        (b"192.0.2.7", b"7.2.0.192."),
        (b"", b""),
        (b"x", b"x."),
        (b"1.2", b"2.1."),
        (b"::ffff:192.0.2.7", b"7.2.0.192."),
        (b"2001:db8::7", b"7" + b".0" * 23 + b".8.b.d.0.1.0.0.2."),
        (b"fe80::1%eth0", b"1" + b".0" * 28 + b".8.e.f."),
        (b"1:x", b"1:x."),
    ],
    ids=str,
)
def test_what_is_looked_up_in_a_list(ip: bytes, before: bytes) -> None:
    assert reverse(ip) == before


@pytest.mark.parametrize(
    ("verdict", "must_not_bounce", "text", "reply"),
    [
        (REFUSE, False, b"no", b"451 no"),
        (BOUNCE, False, b"no", b"553 no"),
        (BOUNCE, True, b"no", b"451 no"),
        (REFUSE, False, b"\0\x1f ~\x7f\xff", b"451 ?? ~??"),
        (REFUSE, False, b"x" * 300, b"451 " + b"x" * 200),
    ],
    ids=range(5),
)
def test_replies_of_a_refusal(verdict: int, must_not_bounce: bool, text: bytes, reply: bytes) -> None:
    decision = Decision(b"192.0.2.7")
    decision.verdict, decision.must_not_bounce, decision.text = verdict, must_not_bounce, text
    assert decision.reply() == reply
