"""What the technician may write of an OPC UA link, and how each mistake is named."""

import pytest

from config.judge import Unsound, judged
from drivers.api import DriverMisconfigured
from drivers.opcua.driver import OpcUaDriver
from drivers.opcua.settings import OpcUaLink, OpcUaPoint, Security


def fault(data, model=OpcUaPoint):
    """Give the code of the one fault in some settings."""
    with pytest.raises(Unsound) as caught:
        judged(model, data)
    (error,) = caught.value.findings
    return error.kind


@pytest.mark.parametrize(
    "node",
    [
        "i=2258",
        "ns=2;s=Line3.Speed",
        "nsu=urn:plant;s=Dây chuyền; 3",
        "ns=1;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63",
        "ns=1;b=M/RbKBsRVkePCePcx24oRA==",
    ],
)
def test_a_node_is_written_in_the_form_of_the_standard(node):
    """OPC UA Part 6, 5.3.1.10."""
    assert judged(OpcUaPoint, {"node": node}).node == node


@pytest.mark.parametrize(
    "node", ["", "Speed", "ns=x;s=a", "ns=2;i=abc", "i=4294967296", "ns=1;g=1", "b=?", "ns=2;s=", "nsu=;i=1"]
)
def test_what_is_no_node_id_is_refused(node):
    """Before anything is asked of a server."""
    assert fault({"node": node}) == "opcua.node-id"


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"scale": 0}, "opcua.scale-zero"),
        ({"range": [2, 1]}, "opcua.range-crossed"),
        ({"deadband": -1}, "opcua.deadband"),
        ({"type": "text", "range": [0, 1]}, "opcua.no-number"),
        ({"type": "bool", "deadband": 1}, "opcua.no-number"),
    ],
)
def test_each_mistake_in_a_point_has_its_code(keys, code):
    """The code is the key to the words, in both languages."""
    assert fault({"node": "i=1", **keys}) == code


@pytest.mark.parametrize(
    "url", ["http://h:4840", "opc.tcp://", "opc.tcp://user:pw@h:4840", "192.168.1.20", "opc.tcp://h:x"]
)
def test_an_address_is_an_opc_tcp_url_without_a_password(url):
    """A password in an address would stand in every log."""
    devices = {"d": {"every": "1s", "points": {"a": {"node": "i=1"}}}}
    assert fault({"driver": "opcua", "url": url, "devices": devices}, OpcUaLink) == "opcua.url"


@pytest.mark.parametrize("url", ["opc.tcp://h", "opc.tcp://192.168.1.20:4840/server", "opc.tcp://[fd00::1]:4840"])
def test_names_and_both_kinds_of_addresses_are_taken(url):
    """IPv6 too."""
    devices = {"d": {"every": "1s", "points": {"a": {"node": "i=1"}}}}
    assert judged(OpcUaLink, {"driver": "opcua", "url": url, "devices": devices}).url == url


def test_security_without_a_certificate_is_refused_at_once():
    """Not when the server refuses it."""
    assert fault({"policy": "Basic256Sha256"}, Security) == "opcua.certificate-missing"


def test_a_password_is_not_shown():
    """Neither in a log nor in a traceback."""
    devices = {"d": {"every": "1s", "points": {"a": {"node": "i=1"}}}}
    user = {"name": "reader", "password": "s3cret"}
    link = judged(OpcUaLink, {"driver": "opcua", "url": "opc.tcp://h", "user": user, "devices": devices})
    assert "s3cret" not in repr(link)


def misfit(device, clock):
    """Give the path and code of what cannot be carried out."""
    link = {"driver": "opcua", "url": "opc.tcp://h", "devices": {"line": device}}
    with pytest.raises(DriverMisconfigured) as caught:
        OpcUaDriver("plc", judged(OpcUaLink, link), clock)
    return caught.value.path, caught.value.code


POINT = {"node": "i=1"}


@pytest.mark.parametrize(
    ("device", "path", "code"),
    [
        ({"every": "1s"}, (), "drivers.no-points"),
        ({"points": {"a": POINT}}, ("points", "a"), "opcua.every-or-subscribe"),
        ({"every": "1s", "subscribe": "1s", "points": {"a": POINT}}, ("every",), "opcua.every-and-subscribe"),
        (
            {"subscribe": "1s", "points": {"a": {**POINT, "every": "1s"}}},
            ("points", "a", "every"),
            "opcua.every-and-subscribe",
        ),
        (
            {"every": "1s", "points": {"a": {**POINT, "deadband": 1}}},
            ("points", "a", "deadband"),
            "opcua.deadband-needs-subscribe",
        ),
        ({"every": "1s", "points": {f"p{n}": POINT for n in range(4097)}}, (), "drivers.too-many-points"),
    ],
)
def test_what_cannot_be_carried_out_is_named_with_its_place(device, path, code, clock):
    """The path leads to the line in the file."""
    assert misfit(device, clock) == (("devices", "line", *path), code)


def test_groups_are_intervals_or_one_subscription(clock):
    """A device reads at its intervals, or is told."""
    points = {"a": {**POINT, "unit": "m/s", "range": [0, 9], "note": "belt"}, "b": {**POINT, "every": "1m"}}
    devices = {"read": {"every": "1s", "points": points}, "told": {"subscribe": "500ms", "points": {"a": POINT}}}
    link = judged(OpcUaLink, {"driver": "opcua", "url": "opc.tcp://h", "devices": devices})
    groups = OpcUaDriver("plc", link, clock).groups
    assert [(group.device, group.layout.every_ns) for group in groups] == [
        ("read", 10**9),
        ("read", 60 * 10**9),
        ("told", None),
    ]
    column = groups[0].layout.columns[0]
    assert (column.kind, column.address, column.low, column.high, column.note) == ("float64", "i=1", "0", "9", "belt")
