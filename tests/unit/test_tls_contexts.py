"""What a client gets: the certificate of the name that it asks for, of a kind that it knows; its tickets."""

import os
import ssl

import pytest

import certificates
from tls_contexts import SECRET, chain, client, contexts, server, tickets
from ucspid.plan import TlsContext
from ucspid.tls import material, openssl
from ucspid.tls.contexts import SUITE, Contexts, ServerContext
from ucspid.tls.material import Chain, ContextMaterial, TlsMaterial
from ucspid.tls.ticket_keys import PERIOD, TicketSecret


class Handshake:
    """One handshake in memory, and some data after it, since tickets come with them."""

    def __init__(
        self,
        served: ServerContext,
        context: ssl.SSLContext | None = None,
        name: str | None = "mail.example.org",
        session: ssl.SSLSession | None = None,
    ) -> None:
        one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = served.default.wrap_bio(one, other, server_side=True)
        self.client = (context or client()).wrap_bio(
            other, one, server_side=False, server_hostname=name, session=session
        )
        waiting = [self.client, self.server]
        for side in [self.client, self.server] * 4:
            if side in waiting:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                waiting.remove(side)
        assert waiting == []
        self.server.write(b"x")
        assert self.client.read(1) == b"x"

    def names(self) -> set[str]:
        certificate = self.client.getpeercert()
        assert certificate is not None
        return {str(pair[1]) for pair in certificate["subjectAltName"]}


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("mail.example.org", "mail.example.org"), ("MAIL.Example.org", "mail.example.org"),
        ("example.net", "example.net"), ("a.example.net", "example.net"),
        ("a.b.example.net", "mail.example.org"), ("elsewhere.example", "mail.example.org"),
        (None, "mail.example.org"),
    ],
)  # fmt: skip
def test_the_name_decides_and_else_the_first_certificate(asked: str | None, given: str) -> None:
    assert given in Handshake(server("mail", "any"), name=asked).names()


@pytest.mark.parametrize("asked", ["elsewhere.example", None])
def test_strict_refuses_whoever_asks_for_another_name_or_none(asked: str | None) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)callback failed"):
        Handshake(server("mail", sni="strict"), name=asked)
    assert Handshake(server("mail", sni="strict")).names() == {"mail.example.org"}


@pytest.mark.parametrize(
    ("ciphers", "kind"), [("ECDHE-ECDSA-AES256-GCM-SHA384", "ecdsa"), ("ECDHE-RSA-AES256-GCM-SHA384", "rsa")]
)
def test_of_two_kinds_of_key_each_client_gets_one_that_it_can_use(ciphers: str, kind: str) -> None:
    context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    cipher = Handshake(server("mail", "mail-rsa"), context).client.cipher()
    assert cipher is not None
    assert kind in cipher[0].lower()


def test_an_ed25519_key_serves_too() -> None:
    assert Handshake(server("ed"), name="ed.example.org").names() == {"ed.example.org"}


def test_versions_renegotiation_and_compression() -> None:
    served = server("mail", min_version="1.3")
    with pytest.raises(ssl.SSLError, match=r"(?i)unsupported protocol"):
        Handshake(served, client(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert Handshake(served).client.version() == "TLSv1.3"
    old = Handshake(server("mail"), client(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert (old.client.version(), old.client.compression()) == ("TLSv1.2", None)
    assert served.default.options & ssl.OP_NO_RENEGOTIATION


def test_ciphers_have_forward_secrecy_and_are_authenticated_unless_the_file_says_others() -> None:
    old = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-ECDSA-AES256-SHA384")
    with pytest.raises(ssl.SSLError, match=r"(?i)no shared cipher"):
        Handshake(server("mail"), old)
    cipher = Handshake(server("mail", ciphers="ECDHE-ECDSA-AES256-SHA384"), old).client.cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-AES256-SHA384"


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (ssl.TLSVersion.TLSv1_3, "TLS_AES_128_GCM_SHA256"),
    ],
)
def test_of_ciphers_the_one_that_takes_least_cpu_comes_first(version: ssl.TLSVersion, name: str) -> None:
    cipher = Handshake(server("mail"), client(maximum_version=version)).client.cipher()
    assert cipher is not None
    assert cipher[0] == name


@pytest.mark.parametrize("name", ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_a_client_of_tls_1_3_that_offers_one_cipher_gets_it(name: str) -> None:
    context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    assert openssl.LIBRARY is not None
    openssl.LIBRARY.SSL_CTX_set_ciphersuites(openssl.pointer(context), name.encode())
    cipher = Handshake(server("mail"), context).client.cipher()
    assert cipher is not None
    assert cipher[0] == name


def test_a_cipher_that_the_system_does_not_allow_is_not_put_first() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert openssl.LIBRARY is not None
    openssl.LIBRARY.SSL_CTX_set_ciphersuites(openssl.pointer(context), b"TLS_AES_256_GCM_SHA384")
    openssl.prefer(context, SUITE)
    assert [item["name"] for item in context.get_ciphers() if item["protocol"] == "TLSv1.3"] == [
        "TLS_AES_256_GCM_SHA384"
    ]


def test_protocols_are_agreed_on_whichever_certificate_is_used() -> None:
    context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    context.check_hostname = False
    context.set_alpn_protocols(["pop3", "imap"])
    served = server("mail", "any", alpn=("imap",))
    for name in ("mail.example.org", "a.example.net"):
        assert Handshake(served, context, name).server.selected_alpn_protocol() == "imap"


@pytest.mark.parametrize("name", ["mail.example.org", "a.example.net"])
def test_a_clients_certificate_is_asked_for_and_checked(name: str) -> None:
    served = server("mail", "any", ca=True, client_certificates="require")
    with_one = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    with_one.check_hostname = False
    with_one.load_cert_chain(certificates.shared() / "client.example.org.pem")
    with_one.maximum_version = ssl.TLSVersion.TLSv1_2  # of TLS 1.3 a client hears it later
    certificate = Handshake(served, with_one, name).server.getpeercert()
    assert certificate is not None
    assert ("DNS", "client.example.org") in certificate["subjectAltName"]
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        Handshake(served, client(maximum_version=ssl.TLSVersion.TLSv1_2), name)
    optional = server("mail", "any", ca=True, client_certificates="request")
    assert Handshake(optional, name=name).server.getpeercert() is None


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_is_good_in_every_process_with_the_secret_and_in_no_other(version: ssl.TLSVersion) -> None:
    context = client(maximum_version=version)
    used = tickets()
    served, number = contexts("mail", used=used)
    used.context = number

    def resumed(secret: TicketSecret, session: ssl.SSLSession | None) -> bool | None:
        other = tickets(secret)
        again, other.context = contexts("mail", used=other)
        found = again.get(number)
        assert found is not None
        return Handshake(found, context, session=session).client.session_reused

    first = served.get(number)
    assert first is not None
    session = Handshake(first, context).client.session
    assert resumed(SECRET, session)
    assert not resumed(TicketSecret(0, b"t" * 32), session)
    assert not resumed(SECRET.at(2 * PERIOD), session)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_of_the_period_before_is_good_and_replaced(version: ssl.TLSVersion) -> None:
    context = client(maximum_version=version)
    used = tickets()
    served, used.context = contexts("mail", used=used)
    found = served.get(used.context)
    assert found is not None
    session = Handshake(found, context).client.session
    used.keys.turn(PERIOD)
    again = Handshake(found, context, session=session)
    assert again.client.session_reused
    used.keys.turn(2 * PERIOD)
    assert Handshake(found, context, session=again.client.session).client.session_reused


def test_a_ticket_of_a_service_that_asks_for_no_certificate_is_none_where_one_is_required() -> None:
    used = tickets()
    served, used.context = contexts("mail", used=used)
    found = served.get(used.context)
    assert found is not None
    context = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    session = Handshake(found, context).client.session
    assert Handshake(found, context, session=session).client.session_reused
    strict, used.context = contexts("mail", used=used, ca=True, client_certificates="require")
    other = strict.get(used.context)
    assert other is not None
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        Handshake(other, context, session=session)


def test_contexts_of_the_plan_before_serve_connections_on_their_way() -> None:
    made, number = contexts("mail")
    made.take(TlsMaterial(chains=(), contexts=()))
    assert made.get(number) is not None
    made.take(TlsMaterial(chains=(), contexts=()))
    assert made.get(number) is None


def test_material_that_cannot_be_used_changes_nothing() -> None:
    made, number = contexts("mail")
    before = made.get(number)
    broken = Chain(names=("a",), kind="ec", pem=chain("mail").pem.replace("BEGIN", "BEGUN"))
    context = ContextMaterial(context=TlsContext(certificates=()), chains=(0,))
    with pytest.raises(ssl.SSLError):
        made.take(TlsMaterial(chains=(broken,), contexts=(context,)))
    assert made.get(number) is before


def test_a_chain_that_no_pipe_holds_is_refused() -> None:
    large = Chain(names=(), kind="ec", pem=chain("mail").pem + "#" * 70_000)
    context = ContextMaterial(context=TlsContext(certificates=()), chains=(0,))
    with pytest.raises(ValueError, match="bytes"):
        Contexts(None).take(TlsMaterial(chains=(large,), contexts=(context,)))


def test_material_is_read_as_it_was_written_and_not_beyond_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = os.memfd_create("test")
    whole = TlsMaterial(
        chains=(chain("mail"),),
        contexts=(ContextMaterial(context=TlsContext(certificates=()), chains=(0,), client_ca="x"),),
    )
    material.write(memory, whole)
    assert material.read(memory) == whole
    monkeypatch.setattr(material, "MAX_SIZE", 10)
    with pytest.raises(ValueError, match="more than 10"):
        material.read(memory)
    os.close(memory)
