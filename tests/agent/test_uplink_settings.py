"""From the settings of an uplink to what it carries and where to."""

import pytest

from agent.formats.teller import Signed
from agent.start import OLDEST, Start
from agent.uplink_settings import carriage_of, endpoints_of
from config.judge import Unsound, judged
from config.model import Uplink, parse_percent, parse_rate

NS_PER_S = 10**9


def test_the_settings_of_an_uplink_reach_what_it_carries() -> None:
    """A stream that neither buffer nor devices know is left out."""
    settings = judged(
        Uplink,
        {
            "url": ["mqtt://a:1884", "mqtt://[fd00::1]"],
            "streams": ["main", "gone"],
            "from": "2026-11-20",
            "backlog": "newest-first",
            "share": "50%",
            "max_rate": "20kB/s",
            "no_subscriber": "accept",
            "confirm": "platform",
            "confirm_within": "90s",
            "accept": ["resend"],
            "mqtt": "3.1.1",
            "window": 8,
        },
    )
    carriage = carriage_of("p", "t/g", Signed("t/g"), settings, ("main", "side"), "Asia/Ho_Chi_Minh")
    assert carriage.streams == ("main",)
    assert carriage.start == Start(wall_ns=1_795_107_600 * NS_PER_S)
    assert (carriage.newest_first, carriage.share_percent, carriage.max_rate) == (True, 50, 20_000)
    assert (carriage.unheard_counts, carriage.confirm_within_s, carriage.resend) == (True, 90.0, True)
    first, second = endpoints_of("g.p", settings)
    assert (first.host, first.port, first.protocol, first.window, first.client_id) == ("a", 1884, 4, 8, "g.p")
    assert (second.host, second.port) == ("fd00::1", 1883)


def test_what_is_not_said_is_careful() -> None:
    """The oldest first, nothing counts that nobody got, the platform may send nothing."""
    settings = judged(Uplink, {"url": "mqtts://a", "tls": {"ca": "/x/ca.pem"}})
    carriage = carriage_of("p", "t/g", Signed("t/g"), settings, ("main", "side"), "UTC")
    assert carriage.streams == ("main", "side")
    assert (carriage.start, carriage.newest_first, carriage.unheard_counts) == (OLDEST, False, False)
    assert (carriage.confirm_within_s, carriage.resend, carriage.max_rate) == (None, False, None)
    assert endpoints_of("g.p", settings)[0].ca == "/x/ca.pem"
    assert endpoints_of("g.p", settings)[0].max_packet is None
    pushed = judged(Uplink, {"url": "mqtt://a", "accept": ["config"]})
    assert endpoints_of("g.p", pushed)[0].max_packet == 256_000 + 4096
    now = judged(Uplink, {"url": "mqtt://a", "from": "now"})
    assert carriage_of("p", "t/g", Signed("t/g"), now, (), "UTC").start == Start(now=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": []},
        {"share": "0%"},
        {"share": "101%"},
        {"share": "0.5"},
        {"max_rate": "20kB"},
        {"max_rate": "0kB/s"},
        {"max_rate": "20kB/m"},
        {"from": "yesterday"},
        {"from": "2026-02-30"},
        {"backlog": "random"},
        {"confirm": "both"},
        {"no_subscriber": "drop"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict) -> None:
    """Each key by itself."""
    with pytest.raises(Unsound):
        judged(Uplink, {"url": "mqtt://a", **wrong})


def test_units_are_read_whole() -> None:
    """Rates and parts carry theirs."""
    assert parse_rate("1.5kB/s") == 1500
    assert parse_percent("75 %") == 75
