"""How a session comes to be and ends: logging in, securing, losing the server."""

import asyncio

import pytest
from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.user_managers import UserManager
from cryptography.x509.oid import ExtendedKeyUsageOID
from rig import until

from buffer import status
from config.judge import judged
from drivers import conformance
from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.opcua.driver import OpcUaDriver
from drivers.opcua.session import Session

POINTS = {"a": {"node": "i=2258", "type": "text"}, "level": {"node": "i=2267", "type": "uint8"}}


async def refusal(driver):
    """Give the code with which opening is refused."""
    with pytest.raises(LinkDown) as caught:
        await driver.open()
    await driver.close()
    return caught.value.code


async def test_a_killed_server_is_link_down_for_polling_and_listening(own_plant, driver_of):
    """Every listener and every later poll hears of it."""
    points = {"a": {"node": own_plant.node("Double")}}
    devices = {"read": {"every": "1s", "points": points}, "told": {"subscribe": "50ms", "points": points}}
    await conformance.lost_link_is_link_down(
        lambda: driver_of(own_plant.instrument.url, devices=devices), own_plant.instrument.stop
    )


async def test_a_server_that_comes_back_is_read_again(skab, own_plant, driver_of):
    """A driver opens again after its server was gone."""
    driver = driver_of(own_plant.instrument.url, {"serial": own_plant.instrument.points()["serial"]}, every="1s")
    await driver.open()
    await own_plant.instrument.stop()
    with pytest.raises(LinkDown):
        await driver.poll(driver.groups[0])
    await driver.close()
    await own_plant.instrument.start()
    await own_plant.instrument.write_row()
    await driver.open()
    assert (await driver.poll(driver.groups[0])).values == (1,)
    await driver.close()


class Door(UserManager):
    """Lets one user in."""

    def get_user(self, iserver, username=None, password=None, certificate=None):
        """Judge a name and a password."""
        return User(role=UserRole.User) if (username, password) == ("reader", "tràm") else None


async def locked(tmp_path, policies):
    """Start a server that wants a certificate and a password."""
    server = Server(user_manager=Door())
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    server.set_security_policy(policies, permission_ruleset=SimpleRoleRuleset())
    uri = "urn:trambien:test:server"
    await server.set_application_uri(uri)
    key, cert = tmp_path / "server-key.pem", tmp_path / "server.der"
    await setup_self_signed_certificate(key, cert, uri, "127.0.0.1", [ExtendedKeyUsageOID.SERVER_AUTH], {})
    await server.load_certificate(str(cert))
    await server.load_private_key(str(key))
    return server


async def test_a_secured_channel_and_a_password_open_the_door(tmp_path, driver_of):
    """Signed and encrypted with a certificate of our own; a wrong password is told apart from a wrong certificate."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.der"
    uri = "urn:trambien:test:gateway"
    await setup_self_signed_certificate(key, cert, uri, "gateway", [ExtendedKeyUsageOID.CLIENT_AUTH], {})
    server = await locked(tmp_path, [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.start()
    port = server.bserver._server.sockets[0].getsockname()[1]
    url = f"opc.tcp://127.0.0.1:{port}"
    server.set_endpoint(url)
    security = {"policy": "Basic256Sha256", "certificate": str(cert), "key": str(key)}

    def make(password="tràm", **changed):
        extra = {"security": {**security, **changed}, "user": {"name": "reader", "password": password}}
        return driver_of(url, POINTS, every="1s", extra=extra, timeout="3s")

    try:
        async with conformance.opened(make) as driver:
            frame = await driver.poll(driver.groups[0])
            assert frame.values[1] is not None
        assert await refusal(make(password="wrong")) == "opcua.denied"
        assert await refusal(make(certificate=str(tmp_path / "none.der"))) == "opcua.certificate-unusable"
        (tmp_path / "bad.der").write_bytes(b"no certificate")
        assert await refusal(make(certificate=str(tmp_path / "bad.der"))) == "opcua.certificate-unusable"
        assert await refusal(make(policy="Aes256_Sha256_RsaPss")) == "opcua.not-accepted"
        plain = driver_of(url, POINTS, every="1s", timeout="3s")
        assert await refusal(plain) in ("opcua.not-accepted", "opcua.denied", "opcua.unreachable")
    finally:
        await server.stop()


async def test_an_unknown_host_is_named(driver_of):
    """A name that nobody resolves."""
    code = await refusal(driver_of("opc.tcp://no-such-host.invalid:4840", POINTS, every="1s", timeout="5s"))
    assert code in ("opcua.unknown-host", "opcua.unreachable")


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_what_is_no_opc_ua_server_is_link_down_in_time(driver_of, said):
    """Something else listens there, and says something else or hangs up."""

    async def serve(reader, writer):
        await reader.read(8)
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await conformance.dead_end_is_link_down(
        lambda: driver_of(f"opc.tcp://127.0.0.1:{port}", POINTS, every="1s", timeout="500ms")
    )
    server.close()
    await server.wait_closed()


async def test_a_mute_server_is_link_down_within_the_time_out(driver_of):
    """It accepts and says nothing."""
    held = []

    async def serve(reader, writer):
        held.append(writer)
        await reader.read()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await conformance.dead_end_is_link_down(
        lambda: driver_of(f"opc.tcp://127.0.0.1:{port}", POINTS, every="1s", timeout="300ms")
    )
    server.close()
    for writer in held:
        writer.close()
    await server.wait_closed()


def test_foreign_errors_are_named_by_what_must_happen_next():
    """A call that failed: ask again, open again, or wait."""
    link = {"driver": "opcua", "url": "opc.tcp://h:4840", "devices": {"d": {"every": "1s", "points": POINTS}}}
    session = Session(judged(OpcUaDriver.Settings, link), lambda _: None)
    assert isinstance(session._translated(TimeoutError()), NoAnswer)
    assert isinstance(session._translated(ConnectionError("gone")), LinkDown)
    assert isinstance(session._translated(ua.uaerrors.BadSessionIdInvalid()), LinkDown)
    assert isinstance(session._translated(ua.uaerrors.BadTooManyOperations()), BadAnswer)
    assert session._translated(ua.uaerrors.BadTooManyOperations()).fields["reason"] == "BadTooManyOperations"


async def test_a_listener_hears_the_server_end_its_subscription(own_plant, driver_of):
    """A subscription that the server gave up is a link to be opened anew."""
    driver = driver_of(own_plant.instrument.url, {"a": {"node": own_plant.node("Double")}}, subscribe="50ms")
    heard = asyncio.Event()

    async def emit(_changes):
        heard.set()

    await driver.open()
    listening = asyncio.create_task(driver.listen(driver.groups[0], emit))
    await asyncio.wait_for(heard.wait(), 60)
    for subscription in own_plant.instrument._server.iserver.subscription_service.subscriptions.values():
        await subscription.enqueue_statuschange(ua.StatusCode(ua.StatusCodes.BadTimeout))
    await own_plant.write("Double", 0.7)
    with pytest.raises(LinkDown) as caught:
        await asyncio.wait_for(listening, 60)
    assert (caught.value.code, caught.value.fields["reason"]) == ("opcua.subscription-ended", "BadTimeout")
    await driver.close()


async def test_closing_a_mute_server_is_bounded_by_the_time_out(own_plant, driver_of):
    """Logging out of a server that says nothing any more does not hold the service up, nor raise."""
    driver = driver_of(own_plant.instrument.url, {"a": {"node": own_plant.node("Double")}}, every="1s", timeout="300ms")
    await driver.open()
    for transport in own_plant.instrument._server.iserver.asyncio_transports:
        transport.pause_reading()
    with pytest.raises(NoAnswer):
        await driver.poll(driver.groups[0])
    started = asyncio.get_running_loop().time()
    await driver.close()
    assert asyncio.get_running_loop().time() - started < 1


async def test_a_subscription_that_cannot_be_made_is_link_down(own_plant, driver_of):
    """There is nothing to listen to, so the link is opened anew."""
    points = {"a": {"node": own_plant.node("Double")}}
    driver = driver_of(own_plant.instrument.url, points, subscribe="50ms", timeout="300ms")
    await driver.open()
    for transport in own_plant.instrument._server.iserver.asyncio_transports:
        transport.pause_reading()
    with pytest.raises(LinkDown) as caught:
        await driver.listen(driver.groups[0], _ignore)
    assert caught.value.code == "opcua.no-answer"
    await driver.close()


async def test_a_device_of_foreign_namespaces_alone_is_told_so(own_plant, driver_of):
    """No subscription is asked for what the server cannot have."""
    told = []

    async def emit(changes):
        told.extend(changes)

    driver = driver_of(own_plant.instrument.url, {"a": {"node": "nsu=urn:elsewhere;i=1"}}, subscribe="50ms")
    await driver.open()
    listening = asyncio.create_task(driver.listen(driver.groups[0], emit))
    await until(lambda: told)
    await asyncio.wait([listening], timeout=0.2)
    assert not listening.done()
    listening.cancel()
    await asyncio.wait([listening])
    await driver.close()
    assert [(change.point, change.value, change.status) for change in told] == [(0, None, status.BAD_NODE_ID_UNKNOWN)]


async def _ignore(_changes):
    pass
