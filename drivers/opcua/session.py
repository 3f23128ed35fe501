"""The session with an OPC UA server, and the only file that imports asyncua.

What is always true here:

- One connection, one session, opened once: nothing reconnects behind the caller's back. That the connection is gone
  is heard at once where TCP says so, and within two time-outs where it does not, by a probe.
- A notification is acknowledged to the server only after `notify` has returned: what the server may forget was passed
  on. No notification overtakes another, and the next is asked for when the last was taken.
- A source timestamp is kept in whole microseconds, which is what the library decodes of the 100 ns on the wire.
- The session outlives a killed client at the server by no more than a minute.
- Foreign exceptions end here as LinkDown, NoAnswer or BadAnswer.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from asyncua import Client, ua
from asyncua.crypto import security_policies, uacrypto
from cryptography import x509

from buffer import status
from drivers.errors import BadAnswer, DriverError, LinkDown, NoAnswer
from drivers.opcua.items import Item, Notify, Told
from drivers.opcua.settings import OpcUaLink, Security

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs what this file raises

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_SESSION_MS = 60_000
_KEEP_ALIVE_MS = 5_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SERVER_DECIDES = -1
_ACCESS = {"BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid"}


class Session:
    """One session. `lost` is called once when the connection is gone or the server ended a subscription."""

    def __init__(self, link: OpcUaLink, lost: Callable[[LinkDown], None]) -> None:
        self._link = link
        self._lost = lost
        self._timeout_s = link.timeout / _NS_PER_S
        self._client: Client | None = None
        self._namespaces: list[str] = []

    async def open(self) -> None:
        """Connect, secure the channel, log in. Raises LinkDown."""
        await self.close()
        client = Client(self._link.url, timeout=self._timeout_s, watchdog_intervall=self._timeout_s)
        client.name = client.description = "trambien"
        client.session_timeout = _SESSION_MS
        client.connection_lost_callback = self._gone
        try:
            await self._connect(client)
        except (OSError, ua.UaError, ValueError) as error:
            client.disconnect_socket()
            raise self._down(error) from error
        except BaseException:
            client.disconnect_socket()
            raise
        self._client = client

    async def _connect(self, client: Client) -> None:
        if self._link.user is not None:
            client.set_user(self._link.user.name)
            client.set_password(getattr(self._link.user.password, "value", self._link.user.password))
        if self._link.security is not None:
            await _protect(client, self._link.security)
        await client.connect()
        if any("nsu=" in point.node for device in self._link.devices.values() for point in device.points.values()):
            self._namespaces = await client.get_namespace_array()

    async def close(self) -> None:
        """Log out and close the socket; bounded by the time-out, never raises."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await client.disconnect()
        except (OSError, ua.UaError):  # TimeoutError is an OSError
            pass
        finally:
            client.disconnect_socket()
            await asyncio.sleep(0)  # the cancelled publish loop ends in the next turn

    async def read(self, nodes: Sequence[str]) -> list[Told]:
        """Read the values of nodes in one call. Raises LinkDown, NoAnswer, BadAnswer."""
        ids = [self._node_id(node) for node in nodes]
        asked = [ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in ids if node is not None]
        values = iter(await self._read(asked) if asked else ())
        return [
            Told(i, None, status.BAD_NODE_ID_UNKNOWN, None) if node is None else _told(i, next(values))
            for i, node in enumerate(ids)
        ]

    async def _read(self, asked: Sequence[ua.ReadValueId]) -> list[ua.DataValue]:
        client = self._opened()
        parameters = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Neither, NodesToRead=list(asked))
        try:
            answers: list[ua.DataValue] = await client.uaclient.read(parameters)
        except (OSError, ua.UaError) as error:
            raise self._translated(error) from error
        if len(answers) != len(asked):
            raise BadAnswer("opcua.short-answer", url=self._link.url, expected=len(asked), got=len(answers))
        return answers

    async def subscribe(
        self, publishing_ns: int, sampling_ns: int | None, items: Sequence[Item], notify: Notify
    ) -> list[int]:
        """Be told of the changes of items from now on; gives a StatusCode an item.

        Raises LinkDown, NoAnswer, BadAnswer.
        """
        client = self._opened()
        sampling_ms = _SERVER_DECIDES if sampling_ns is None else sampling_ns / _NS_PER_MS
        ids = [self._node_id(item.node) for item in items]
        wanted = [
            _request(number, node, item, sampling_ms)
            for number, (node, item) in enumerate(zip(ids, items, strict=True))
            if node is not None
        ]
        if not wanted:
            return [status.BAD_NODE_ID_UNKNOWN] * len(items)
        try:
            made = await client.uaclient.create_subscription(_rhythm(publishing_ns), self._publisher(notify))
            results = await client.uaclient.create_monitored_items(
                ua.CreateMonitoredItemsParameters(made.SubscriptionId, ua.TimestampsToReturn.Source, wanted)
            )
        except (OSError, ua.UaError) as error:
            raise self._translated(error) from error
        codes = iter(results)
        return [status.BAD_NODE_ID_UNKNOWN if node is None else int(next(codes).StatusCode.value) for node in ids]

    def _publisher(self, notify: Notify) -> Callable[[ua.PublishResult], Awaitable[None]]:
        async def published(result: ua.PublishResult) -> None:
            for notification in result.NotificationMessage.NotificationData or ():
                if isinstance(notification, ua.DataChangeNotification):
                    await notify([_told(item.ClientHandle, item.Value) for item in notification.MonitoredItems])
                elif isinstance(notification, ua.StatusChangeNotification):
                    reason = notification.Status.name
                    self._lost(LinkDown("opcua.subscription-ended", url=self._link.url, reason=reason))

        return published

    def _opened(self) -> Client:
        if self._client is None:
            raise LinkDown("opcua.closed", url=self._link.url)
        return self._client

    def _node_id(self, text: str) -> ua.NodeId | None:
        """Give the NodeId, or None where the server does not know its namespace."""
        if not text.startswith("nsu="):
            return ua.NodeId.from_string(text)
        name, _, rest = text[4:].partition(";")
        if name not in self._namespaces:
            return None
        return ua.NodeId.from_string(f"ns={self._namespaces.index(name)};{rest}")

    async def _gone(self, error: Exception) -> None:
        self._lost(LinkDown("opcua.lost", url=self._link.url, reason=str(error)))

    def _translated(self, error: Exception) -> DriverError:
        """Say what must happen after a failed call."""
        if isinstance(error, TimeoutError):
            return NoAnswer("opcua.no-answer", url=self._link.url)
        if isinstance(error, OSError):
            return LinkDown("opcua.lost", url=self._link.url, reason=str(error))
        name = _status_name(error)
        if name.startswith(("BadSession", "BadSecureChannel", "BadConnection", "BadServerNotConnected", "BadShutdown")):
            return LinkDown("opcua.lost", url=self._link.url, reason=name)
        return BadAnswer("opcua.service", url=self._link.url, reason=name)

    def _down(self, error: Exception) -> LinkDown:
        """Say why the session did not come to be."""
        name = _status_name(error)
        if name in _ACCESS:
            code = "opcua.denied"
        elif isinstance(error, FileNotFoundError | PermissionError | ValueError):
            code = "opcua.certificate-unusable"
        elif isinstance(error, ConnectionRefusedError):
            code = "opcua.refused"
        elif isinstance(error, socket.gaierror):
            code = "opcua.unknown-host"
        elif isinstance(error, OSError):
            code = "opcua.unreachable"
        else:
            code = "opcua.not-accepted"
        return LinkDown(code, url=self._link.url, reason=name)


def _status_name(error: Exception) -> str:
    return type(error).__name__ if isinstance(error, ua.UaStatusCodeError) else str(error) or type(error).__name__


def _told(item: int, answer: ua.DataValue) -> Told:
    value = answer.Value.Value if answer.Value is not None else None
    if isinstance(value, ua.LocalizedText):
        value = value.Text
    code = answer.StatusCode.value if answer.StatusCode is not None else status.GOOD
    source = answer.SourceTimestamp
    source_ns = None if source is None else (source - _EPOCH) // _MICROSECOND * 1000
    return Told(item, value, code, source_ns)


def _rhythm(publishing_ns: int) -> ua.CreateSubscriptionParameters:
    interval_ms = publishing_ns / _NS_PER_MS
    keep_alive = max(1, round(_KEEP_ALIVE_MS / interval_ms))
    return ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=interval_ms,
        RequestedMaxKeepAliveCount=keep_alive,
        RequestedLifetimeCount=max(3 * keep_alive, round(_SESSION_MS / interval_ms)),
    )


def _request(number: int, node: ua.NodeId, item: Item, sampling_ms: float) -> ua.MonitoredItemCreateRequest:
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value)
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters = ua.MonitoringParameters(number, sampling_ms, None, item.queue, DiscardOldest=True)
    if item.deadband is not None:
        request.RequestedParameters.Filter = ua.DataChangeFilter(
            ua.DataChangeTrigger.StatusValue, ua.DeadbandType.Absolute, item.deadband
        )
    return request


async def _protect(client: Client, security: Security) -> None:
    """Sign and encrypt with our certificate. Raises OSError, ValueError, UaError."""
    policy = getattr(security_policies, "SecurityPolicy" + security.policy.replace("_", ""))
    certificate = await uacrypto.load_certificate(Path(security.certificate))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    client.application_uri = next(
        iter(names.get_values_for_type(x509.UniformResourceIdentifier)), client.application_uri
    )
    await client.set_security(
        policy,
        certificate=security.certificate,
        private_key=security.key,
        server_certificate=security.server_certificate,
        mode=ua.MessageSecurityMode[security.mode],
    )
