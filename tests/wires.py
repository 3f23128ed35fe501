"""Every kind of Modbus wire with a scripted slave at its far end, for the tests of the Modbus driver."""

import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.judge import judged
from drivers.modbus.settings import ModbusLink
from drivers.modbus.wire import Wire
from drivers.simulated.metered_line import MeteredLine
from drivers.simulated.scripted_slave import ScriptedSlave
from drivers.simulated.slave_server import SlaveServer

WIRES = ("tcp", "rtu", "rtu-over-tcp", "ascii", "ascii-over-tcp")
LINES = WIRES[1:]
DEVICES = {"d": {"unit": 1, "every": "1s", "points": {"a": {"holding": 0}}}}


def link(**keys):
    """Make the settings of a link."""
    return judged(ModbusLink, {"driver": "modbus", "devices": DEVICES, **keys})


@contextlib.asynccontextmanager
async def opened(kind: str, slave: ScriptedSlave, **keys) -> AsyncIterator[tuple[Wire, "SlaveServer | MeteredLine"]]:
    """Give an open wire of a kind and its far end, which can `say` something unasked."""
    framing, _, over = kind.partition("-")
    timeout = keys.get("timeout", "400ms")
    keys = {"timeout": timeout, "timeout_min": timeout, "framing": framing, **keys}
    far = SlaveServer(slave, framing) if framing == "tcp" or over else MeteredLine(slave.conversation(framing))
    if isinstance(far, SlaveServer):
        await far.start()
        wire = Wire(link(host=far.host, port=far.port, **keys))
    else:
        far.plug()
        wire = Wire(link(serial={"port": far.port, "baud": 115200}, **keys))
    try:
        await wire.open()
        yield wire, far
    finally:
        wire.close()
        if isinstance(far, SlaveServer):
            await far.stop()
        else:
            far.unplug()


@dataclass
class Authority:
    """A certificate authority in a folder, and the certificates it issued there."""

    folder: Path
    name: str = "ca"

    def __post_init__(self) -> None:
        """Make the authority's own certificate."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.ca = self._write(self.name, self._certificate(self.subject, self.key, (), ca=True), self.key)[0]

    def issue(self, name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
        """Give the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(name, self._certificate(subject, key, names, ca=False), key)

    def serve(self, cert: Path, key: Path) -> ssl.SSLContext:
        """Make the context of a server that wants to see a certificate of this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        context.load_cert_chain(cert, key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _certificate(self, subject, key, names, *, ca):
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name, certificate, key):
        cert_path, key_path = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        key_path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
        )
        return cert_path, key_path
