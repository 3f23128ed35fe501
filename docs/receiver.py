"""A reference receiver: verifies each block, keeps it once, and confirms what it keeps. See docs/platform.md.

    python docs/receiver.py HOST PORT trambien/v1/GATEWAY PUBLIC_KEY_HEX DIRECTORY [CA CERT KEY]

Blocks are files named by their digest. What is confirmed is on the disk: the file and its directory are synced before.
"""

import json
import os
import sys
from collections import defaultdict
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from buffer.block import Header, check_payload, decode_block, open_envelope, trust
from buffer.errors import BlockInvalid
from buffer.intervals import Intervals


class Receiver:
    """Keeps one gateway's blocks in a directory."""

    def __init__(self, client: Client, root: str, key: bytes, directory: Path) -> None:
        self.client, self.root, self.directory = client, root, directory
        self.keys = trust([key])
        self.had: defaultdict[tuple[str, bytes], Intervals] = defaultdict(Intervals)
        for file in directory.glob("*.block"):
            header = open_envelope(decode_block(file.read_bytes()).envelope, self.keys)
            self.had[header.stream, header.epoch].add(header.seq)
        client.on_connect = lambda *_: client.subscribe(f"{root}/block/+", qos=1)
        client.on_message = self.take

    def take(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        """Verify a block, keep it unless it is a repeat, and confirm it either way."""
        try:
            block = decode_block(message.payload)
            header = open_envelope(block.envelope, self.keys)
            check_payload(block, header)
        except BlockInvalid as invalid:
            print("not kept:", invalid.reason, file=sys.stderr)
            return
        path = self.directory / f"{block.digest.hex()}.block"
        if not path.exists():
            self.keep(path, message.payload)
        self.had[header.stream, header.epoch].add(header.seq)
        self.confirm(header, block.digest)

    def keep(self, path: Path, data: bytes) -> None:
        """Write a file so that a power cut leaves it whole or absent."""
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        directory = os.open(self.directory, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def confirm(self, header: Header, digest: bytes) -> None:
        """Confirm a block, and name all that is lacking of its epoch before it."""
        missing = self.had[header.stream, header.epoch].gaps(1, header.seq)
        ack = {"stream": header.stream, "epoch": header.epoch.hex(), "up_to": header.seq, "digest": digest.hex()}
        self.client.publish(f"{self.root}/ack", json.dumps({**ack, "missing": missing[-1000:]}), qos=1)


def main(host: str, port: str, root: str, key: str, directory: str, *tls: str) -> None:
    """Receive until killed."""
    client = Client(CallbackAPIVersion.VERSION2, f"receiver-{os.getpid()}", protocol=MQTTProtocolVersion.MQTTv5)
    if tls:
        client.tls_set(*tls)
    Receiver(client, root, bytes.fromhex(key), Path(directory))
    client.connect(host, int(port))
    client.loop_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
