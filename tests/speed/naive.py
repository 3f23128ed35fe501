"""What a technician writes in an evening, to compare with: `python -m speed.naive SETTINGS.json`.

pymodbus asks one device after the other, each poll is a row of JSON in SQLite with a commit of its own, and rows go
out through paho one publish at a time, oldest first, each waited for; what was sent is marked. Nothing is signed, and
nobody notices a row that is changed or gone. It is not written badly: TLS, QoS 1 and a durable row are what it claims.

On SIGTERM it writes what it did to the `out` of its settings: readings taken and sent, and the time from the answer to
the PUBACK of each row.
"""

import json
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from pymodbus.client import ModbusTcpClient


def connect(settings: dict[str, Any]) -> mqtt.Client:
    """Connect to the broker, and let paho reconnect."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.tls_set(settings["ca"], settings["cert"], settings["key"])
    client.connect_async("localhost", settings["broker"])
    client.loop_start()
    return client


def main(settings: dict[str, Any]) -> None:
    """Poll, store, publish, until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    so_far = Path(settings["out"]).with_suffix(".so_far")
    so_far.write_text("0")
    database = sqlite3.connect(settings["database"], isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE IF NOT EXISTS reading (id INTEGER PRIMARY KEY, t REAL, payload TEXT, sent INTEGER)")
    database.execute("CREATE INDEX IF NOT EXISTS unsent ON reading (sent, id)")
    client = connect(settings)
    devices = [ModbusTcpClient("127.0.0.1", port=port) for port in settings["ports"]]
    done: dict[str, Any] = {"readings": 0, "sent": 0, "latency_s": []}
    due_s = time.monotonic()
    while not stopped:
        for number, device in enumerate(devices):
            if not device.connected:
                device.connect()
            answer = device.read_input_registers(0, count=settings["registers"], device_id=1)
            values = {f"r{n}": value for n, value in enumerate(answer.registers)}
            row = json.dumps({"device": number, "t": time.time(), "values": values})
            database.execute("INSERT INTO reading (t, payload, sent) VALUES (?, ?, 0)", (time.monotonic(), row))
            done["readings"] += len(values)
        due_s = max(due_s + settings["every_s"], time.monotonic())
        send(client, database, settings["topic"], due_s, done)
        so_far.write_text(str(done["sent"]))
        while not stopped and (left_s := due_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.2))
    client.loop_stop()
    Path(settings["out"]).write_text(json.dumps(done))


def send(client: mqtt.Client, database: sqlite3.Connection, topic: str, until_s: float, done: dict[str, Any]) -> None:
    """Publish what was not sent yet, oldest first, until it is time to poll again."""
    unsent = database.execute("SELECT id, t, payload FROM reading WHERE sent = 0 ORDER BY id LIMIT 1000").fetchall()
    for row, t_s, payload in unsent:
        if not client.is_connected() or (time.monotonic() > until_s and len(unsent) > 100):
            return
        try:
            client.publish(topic, payload, qos=1).wait_for_publish(5)
        except (RuntimeError, ValueError):
            return
        database.execute("UPDATE reading SET sent = 1 WHERE id = ?", (row,))
        done["sent"] += 1
        done["latency_s"].append(time.monotonic() - t_s)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
