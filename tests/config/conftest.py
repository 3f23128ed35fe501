"""Load a text as a configuration, and certificates to put beside it."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.errors import ConfigFaults
from config.load import load
from tests.config.meter import HEAD, LINKS, settings_for


@pytest.fixture
def load_text(tmp_path):
    """Load a text as a configuration file in an empty directory."""

    def load_it(text, credentials=None):
        file = tmp_path / "gateway.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(file, settings_for, ("meter",), credentials)

    return load_it


@pytest.fixture
def faults_of_text(load_text):
    """Give code, line and column of every fault of a text."""

    def faults(text):
        with pytest.raises(ConfigFaults) as caught:
            load_text(text)
        return [(fault.code, fault.line, fault.col) for fault in caught.value.faults]

    return faults


@pytest.fixture
def point(load_text):
    """Give code and text of every fault of one point's keys."""

    def judge(keys):
        with pytest.raises(ConfigFaults) as caught:
            load_text(HEAD + LINKS.replace("{holding: 1}", keys))
        return [(fault.code, fault.fields["text"]) for fault in caught.value.faults]

    return judge


@pytest.fixture
def certificates(tmp_path) -> Path:
    """Make a certificate with its key, and a key of somebody else."""
    keys = {
        "gateway.key": ec.generate_private_key(ec.SECP256R1()),
        "other.key": ec.generate_private_key(ec.SECP256R1()),
    }
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(keys["gateway.key"].public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(keys["gateway.key"], hashes.SHA256())
    )
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / "gateway.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    for file, key in keys.items():
        pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / file).write_bytes(key.private_bytes(*pem))
    return folder
