"""Whatever bytes stand in the file, the outcome is a configuration or faults with a place, never anything else."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.errors import ConfigFaults
from config.load import load
from tests.config.meter import HEAD, settings_for

SEED = (
    HEAD
    + """uplinks:
  p: {url: "mqtts://h:8883", streams: [main], tls: {ca: 'a.pem'}}
buffer: {keep: 60d, limit: 8GB}
links:
  bus:
    driver: meter
    serial: {port: /dev/x, parity: none}
    devices:
      m: {unit: 3, password: !secret x, points: {p: {holding: 1, scale: 0.001, range: [0, 1e3]}}}
      n: {unit: 4, profile: cas/continuous}
"""
).encode()
SCRAPS = [
    b"&a ",
    b"*a",
    b"<<: ",
    b"!x ",
    b"!secret ",
    b"\t",
    b"\x00",
    b"\xff",
    b"---\n",
    b"- ",
    b"? ",
    b": ",
    b"[",
    b"}",
]
SCRAPS += [
    b'"',
    b"'",
    b"|\n",
    b">\n",
    b"%YAML 9.9\n",
    b"%TAG ! x\n",
    b"\\",
    b"\\U99999999",
    b"\xe2\x80\xa8",
    b"0777",
    b"~",
    b"#",
]

edits = st.lists(
    st.tuples(st.integers(0, len(SEED)), st.integers(0, 8), st.one_of(st.sampled_from(SCRAPS), st.binary(max_size=6))),
    min_size=1,
    max_size=5,
)


def outcome(data, folder):
    """Load bytes; give the number of faults."""
    file = folder / "gateway.yaml"
    file.write_bytes(data)
    try:
        load(file, settings_for, ("meter",))
    except ConfigFaults as faults:
        lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 2
        for fault in faults.faults:
            assert 1 <= fault.line <= lines or fault.file != file
            assert fault.col >= 1
            assert fault.code.startswith("config.")
        return len(faults.faults)
    return 0


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits)
def test_an_edited_file_is_loaded_or_has_faults(tmp_path, changes):
    """Edits at random places, with the scraps that make YAML hard."""
    data = SEED
    for at, removed, added in changes:
        data = data[:at] + added + data[at + removed :]
    outcome(data, tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_have_faults(tmp_path, data):
    """Noise is never a configuration."""
    assert outcome(data, tmp_path) > 0


def test_the_seed_itself_has_only_the_faults_of_missing_files(tmp_path):
    """So that the edits start from something nearly sound."""
    assert outcome(SEED, Path(tmp_path)) == 3
