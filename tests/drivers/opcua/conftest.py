"""A real OPC UA server with nodes of many types, shared by the tests of one module."""

from types import SimpleNamespace

import pytest
import pytest_asyncio
from asyncua import ua

from config.judge import judged
from drivers.opcua.driver import OpcUaDriver
from drivers.simulated.opcua_server import NAMESPACE, OpcUaInstrument

NODES = {
    "Bool": (True, ua.VariantType.Boolean),
    "Byte": (200, ua.VariantType.Byte),
    "Int16": (-5, ua.VariantType.Int16),
    "Int32": (-70000, ua.VariantType.Int32),
    "UInt64": (2**64 - 1, ua.VariantType.UInt64),
    "Float": (0.5, ua.VariantType.Float),
    "Double": (0.1, ua.VariantType.Double),
    "Text": ("bơm 3", ua.VariantType.String),
    "Localized": (ua.LocalizedText("chạy", "vi"), ua.VariantType.LocalizedText),
    "Bytes": (b"\x00\x01", ua.VariantType.ByteString),
    "Array": ([1.0, 2.0], ua.VariantType.Double),
    "NaN": (float("nan"), ua.VariantType.Double),
}


class Plant(SimpleNamespace):
    """A running instrument, and its nodes to be written to."""

    async def write(self, name, value, *, code=0, source=None, kind=None):
        """Write a value, its status and its source time to a node."""
        variant = ua.Variant(value, kind or NODES[name][1])
        data = ua.DataValue(variant, ua.StatusCode(code), source)
        await self.instrument._server.write_attribute_value(ua.NodeId(name, self.index), data)

    def node(self, name):
        """Give the address of a node for the technician's file."""
        return f"nsu={NAMESPACE};s={name}"


async def furnished(skab):
    """Start an instrument that writes only when told, with one node of each type."""
    instrument = OpcUaInstrument(skab, period_s=None)
    await instrument.start()
    server = instrument._server
    index = await server.get_namespace_index(NAMESPACE)
    for name, (value, kind) in NODES.items():
        await server.nodes.objects.add_variable(ua.NodeId(name, index), name, value, kind)
    return Plant(instrument=instrument, index=index)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plant(skab):
    """Give a server that lives as long as the module's tests."""
    made = await furnished(skab)
    yield made
    await made.instrument.stop()


@pytest_asyncio.fixture
async def own_plant(skab):
    """Give a server that a test may kill."""
    made = await furnished(skab)
    yield made
    await made.instrument.stop()


@pytest.fixture
def driver_of(clock):
    """Make drivers on a server from points or devices."""

    def make(url, points=None, *, devices=None, timeout="1s", extra=None, **device):
        devices = devices or {"line": {"points": points, **device}}
        link = {"driver": "opcua", "url": url, "timeout": timeout, "devices": devices, **(extra or {})}
        return OpcUaDriver("plc", judged(OpcUaDriver.Settings, link), clock)

    return make
