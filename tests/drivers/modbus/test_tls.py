"""Modbus/TCP Security: both sides show a certificate, and the name on the server's is looked at."""

import ipaddress

import pytest
import wires
from cryptography import x509
from wires import Authority

from drivers.errors import LinkDown
from drivers.modbus.plan import Request
from drivers.simulated.scripted_slave import ScriptedSlave
from drivers.simulated.slave_server import SlaveServer

ONE = Request("holding", 7, 1)


@pytest.fixture
def authority(tmp_path):
    """Give a certificate authority."""
    return Authority(tmp_path)


@pytest.fixture
async def far(authority):
    """Give a slave inside TLS, on 127.0.0.1, whose certificate says that and `plc.plant`."""
    names = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("plc.plant"))
    server = SlaveServer(ScriptedSlave(), "tcp", tls=authority.serve(*authority.issue("server", *names)))
    await server.start()
    yield server
    await server.stop()


def wire(far, ca, cert, key, host="127.0.0.1", **keys):
    """Make a wire with certificates."""
    tls = {"ca": str(ca), "cert": str(cert), "key": str(key), **keys}
    return wires.Wire(wires.link(host=host, port=far.port, tls=tls, timeout="2s"))


async def asked(wire):
    """Open, ask, close."""
    try:
        await wire.open()
        return await wire.ask(1, ONE)
    finally:
        wire.close()


async def test_with_certificates_of_both_sides_registers_are_read(far, authority):
    """By address, and by another name that the certificate bears."""
    client = authority.issue("client")
    assert await asked(wire(far, authority.ca, *client)) == (b"\0\7", 0)
    assert await asked(wire(far, authority.ca, *client, server_name="plc.plant")) == (b"\0\7", 0)


async def test_a_server_of_another_name_is_not_trusted(far, authority):
    """A certificate of the right authority for another machine."""
    with pytest.raises(LinkDown) as caught:
        await asked(wire(far, authority.ca, *authority.issue("client"), server_name="other.plant"))
    assert caught.value.code == "modbus.tls-untrusted"


async def test_a_server_of_another_authority_is_not_trusted(far, authority, tmp_path):
    """Whoever stands between us and the device has a certificate too."""
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(LinkDown) as caught:
        await asked(wire(far, stranger.ca, *authority.issue("client")))
    assert caught.value.code == "modbus.tls-untrusted"


async def test_a_server_that_does_not_trust_us_is_a_link_that_is_down(far, authority, tmp_path):
    """TLS 1.3 tells us only after the handshake, with what should be the first answer."""
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(LinkDown) as caught:
        await asked(wire(far, authority.ca, *stranger.issue("intruder")))
    assert caught.value.code == "modbus.tls-failed"


async def test_a_device_without_tls_is_named(authority):
    """The usual port instead of the secured one."""
    plain = SlaveServer(ScriptedSlave(), "tcp")
    await plain.start()
    with pytest.raises(LinkDown) as caught:
        await asked(wire(plain, authority.ca, *authority.issue("client")))
    assert caught.value.code in ("modbus.tls-failed", "modbus.unreachable")
    await plain.stop()


async def test_files_that_are_no_certificates_are_a_link_that_is_down(far, authority, tmp_path):
    """Also where they vanish after the configuration was judged."""
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(LinkDown):
            await asked(wire(far, tmp_path / name, *authority.issue("client")))
