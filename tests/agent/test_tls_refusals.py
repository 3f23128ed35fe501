"""A connection that TLS refuses: each reason has words of its own."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rig import Platform

from agent import tls
from agent.broker import Endpoint, connect
from agent.demo import certificates
from agent.demo.certificates import Authority
from agent.errors import BrokerDown, BrokerRefused
from agent.sockets import reachable


@asynccontextmanager
async def tls_server(
    authority: Authority, *, name: str = "localhost", old: bool = False, demanding: bool = False
) -> AsyncIterator[int]:
    """Serve TLS that never gets as far as MQTT, in a thread: a failed handshake sends its alert."""
    pair = authority.issue(name, server=name == "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if old:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    if demanding:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.ca)
    context.load_cert_chain(pair.cert, pair.key)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with plain.dup() as rest:  # read to the end, or the alert would be lost to a reset
                    with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
                        secure.recv(1000)
                    with contextlib.suppress(OSError):
                        rest.shutdown(socket.SHUT_WR)
                        rest.settimeout(2)
                        while rest.recv(1000):
                            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


async def refusal(port: int, ca: Path, host: str = "localhost", **facts: str) -> BrokerDown | BrokerRefused:
    """Connect and give what comes of it."""
    with pytest.raises((BrokerDown, BrokerRefused)) as caught:
        await connect(Endpoint(host, port, "x", str(ca), **facts))
    return caught.value


async def test_an_expired_certificate_has_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is not valid yet."""
    authority = Authority(tmp_path)
    for skew, valid, code in (
        (dt.timedelta(days=9), -dt.timedelta(days=8), "agent.tls-expired"),
        (-dt.timedelta(days=8), dt.timedelta(days=9), "agent.tls-not-yet-valid"),
    ):
        monkeypatch.setattr(certificates, "_SKEW", skew)
        monkeypatch.setattr(certificates, "_VALID", valid)
        async with tls_server(authority) as port:
            assert (await refusal(port, authority.ca)).code == code


async def test_a_certificate_for_another_name_has_its_own_words(tmp_path: Path) -> None:
    """By name and by address."""
    authority = Authority(tmp_path)
    async with tls_server(authority, name="elsewhere") as port:
        error = await refusal(port, authority.ca)
    assert error.code in ("agent.tls-wrong-name", "agent.tls-refused")
    async with tls_server(authority) as port:
        monkey = socket.getaddrinfo
        try:
            socket.getaddrinfo = lambda *_args, **_kwargs: monkey("127.0.0.1", port, type=socket.SOCK_STREAM)
            error = await refusal(port, authority.ca, "iot.example.vn")
        finally:
            socket.getaddrinfo = monkey
    assert error.code == "agent.tls-wrong-name"
    assert error.fields["name"] == "iot.example.vn"


async def test_a_certificate_of_another_authority_has_its_own_words(tmp_path: Path) -> None:
    """A captive portal's, for instance."""
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b", "another")
    async with tls_server(other) as port:
        assert (await refusal(port, authority.ca)).code == "agent.tls-unknown-authority"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_tls_1_1_is_refused_with_its_own_words(tmp_path: Path) -> None:
    """Whoever of the two notices."""
    authority = Authority(tmp_path)
    async with tls_server(authority, old=True) as port:
        assert (await refusal(port, authority.ca)).code == "agent.tls-old-version"


async def test_what_does_not_speak_tls_is_named(tmp_path: Path) -> None:
    """A portal that answers in plain text, or a plain broker's port."""

    async def portal(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()

    authority = Authority(tmp_path)
    server = await asyncio.start_server(portal, "127.0.0.1", 0)
    async with server:
        assert (await refusal(server.sockets[0].getsockname()[1], authority.ca)).code == "agent.not-tls"
    server = await asyncio.start_server(lambda _r, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        error = await refusal(server.sockets[0].getsockname()[1], authority.ca)
        assert error.code in ("agent.tls-cut", "agent.broker-unreachable")


async def test_a_broker_that_refuses_our_certificate_is_named_under_tls_1_3_too(
    platform: Platform, tmp_path: Path
) -> None:
    """Its alert comes behind the handshake, as a lost connection; mosquitto does not always get it across."""
    authority = Authority(tmp_path / "own")
    stranger = Authority(tmp_path / "stranger", "another").issue("gateway")
    for facts in ({}, {"cert": str(stranger.cert), "key": str(stranger.key)}):
        async with tls_server(authority, demanding=True) as port:
            assert (await refusal(port, authority.ca, **facts)).code == "agent.certificate-refused"
        with pytest.raises((BrokerDown, BrokerRefused)) as caught:
            await connect(platform.endpoint("gateway", **{"cert": None, "key": None, **facts}))
        assert caught.value.code in ("agent.tls-cut", "agent.certificate-refused")


async def test_files_that_cannot_be_used_are_named_before_anything_is_sent(tmp_path: Path) -> None:
    """A missing authority, a key of another certificate; a look at the port finds nothing that way either."""
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b", "another")
    pair, stranger = authority.issue("gateway"), other.issue("stranger")
    async with tls_server(authority) as port:
        error = await refusal(port, tmp_path / "missing.pem")
        assert (error.code, error.fields["ca"]) == ("agent.tls-files", str(tmp_path / "missing.pem"))
        error = await refusal(port, authority.ca, cert=str(pair.cert), key=str(stranger.key))
        assert (error.code, error.fields["cert"]) == ("agent.tls-files", str(pair.cert))
        assert not await reachable(Endpoint("localhost", port, "x", str(other.ca)), 5)
        assert await reachable(Endpoint("localhost", port, "x", str(authority.ca)), 5)


def test_what_tls_says_has_a_name_whatever_it_is() -> None:
    """What nobody foresaw is a refusal that carries the library's own words."""
    unforeseen = tls.by_reason("SOMETHING_NEW", "h:1")
    assert (unforeseen.code, unforeseen.fields["reason"]) == ("agent.tls-refused", "SOMETHING_NEW")
    assert tls.by_reason("TLSV1_ALERT_UNKNOWN_CA", "h:1").code == "agent.certificate-refused"
    assert tls.fault(ssl.SSLEOFError(8, "EOF"), "h:1", "h").code == "agent.tls-cut"
    assert tls.alert_in("failed: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13", "h:1") is not None
    assert tls.alert_in("nothing of the kind", "h:1") is None
