"""The mqtt sink's destination: topics of a real Mosquitto, with a subscriber that keeps what comes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from libs.common.rows.identity import Identities
from libs.common.rows.types.flows import FLOWS
from libs.local.mosquitto import LocalMosquitto
from libs.local.ports import LOOPBACK
from tests.contract.harness import Benchmark, Case, Content, Harness, Row
from tests.contract.peers import Options, one_by_one
from tests.flows import Spot
from tests.row_samples import document, position_of, row, table, text_column

MODES = ("5", "3.1.1")
WITHOUT_TLS = {"url": "mqtt://broker", "username": "u", "password": "p"}
MARKS = pytest.mark.mosquitto
_SECONDS = 30.0
_MOST_BYTES = 2_000


class MqttHarness(Harness):
    """Messages; the mode is the version of MQTT by which they are sent."""

    @property
    def is_ordered(self) -> bool:
        """Rows of a source stay in order."""
        return True

    def __init__(self, case: Case, server: LocalMosquitto) -> None:
        super().__init__(case)
        self.server = server
        self.prefix = f"contract/{uuid4().hex}"
        self._content: Content = {}
        self._marks: set[bytes] = set()
        self._subscribed = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = lambda _client, _data, message: self._keep(message)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.connect(LOOPBACK, server.port)
        self._client.loop_start()
        self._wait(lambda: self._subscribed == 1)

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away, and let each direction of flows have its topic."""
        own = {"topic": f"{self.prefix}/{self._level('{direction}')}", "max_packet_bytes": _MOST_BYTES}
        return {"url": self.server.url, "version": self.case.mode, "timeout_seconds": 5, **own}

    def read(self) -> Content:
        """Return what came, once everything has that was acknowledged."""
        self._catch_up()
        return self._content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat, with its topic and, in MQTT 5, its identity."""
        row_type = self.case.row_type
        ids = Identities.of(table(row_type, rows), row_type.position).document_ids().to_pylist() if rows else []
        return {
            position_of(row_type, one): (
                f"{self.prefix}/{self._level(one.get('direction'))}",
                row_id if self.case.mode == "5" else None,
                document(row_type, one),
            )
            for one, row_id in zip(rows, ids, strict=True)
        }

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the server when the subscriber has all: nothing is on a disk."""
        self._catch_up()
        subscribed = self._subscribed
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()
            self._wait(lambda: self._subscribed > subscribed)

    def refused(self) -> Row:
        """A message that is too large."""
        return row(self.case.row_type, Spot(1, 0, 90), **{text_column(self.case.row_type): "x" * _MOST_BYTES})

    def close(self) -> None:
        """Say goodbye."""
        self._client.disconnect()
        self._client.loop_stop()

    def _catch_up(self) -> None:
        """Send a message behind all others and wait until it has come."""
        mark = uuid4().hex.encode()
        self._client.publish(f"{self.prefix}/mark", mark, qos=1)
        self._wait(lambda: mark in self._marks)

    def _keep(self, message: mqtt.MQTTMessage) -> None:
        if message.topic.endswith("/mark"):
            self._marks.add(bytes(message.payload))
            return
        values, properties = json.loads(message.payload), dict(getattr(message.properties, "UserProperty", []))
        kept = message.topic, properties.get("id"), values
        position = position_of(self.case.row_type, values)
        assert self._content.setdefault(position, kept) == kept, "a repeated message is another one"

    def _level(self, direction: Any) -> Any:
        return direction if self.case.row_type is FLOWS else "all"

    def _on_connect(self, *_: object) -> None:
        self._client.subscribe(f"{self.prefix}/#", qos=1)

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed += 1

    @staticmethod
    def _wait(happened: Any) -> None:
        deadline = time.monotonic() + _SECONDS
        while not happened():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give topics of its own."""
    made = MqttHarness(case, request.getfixturevalue("mosquitto"))
    request.addfinalizer(made.close)
    return made


def _publish(options: Options, rows: Iterable[bytes]) -> int:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    acknowledged: list[int] = []
    client.on_publish = lambda _client, _data, number, *_: acknowledged.append(number)
    place = urlsplit(options["url"])
    client.connect(place.hostname or LOOPBACK, place.port or 0)
    client.loop_start()
    sent = [client.publish(options["topic"], row, qos=1) for row in rows]
    for one in sent:
        one.wait_for_publish(_SECONDS)
    client.disconnect()
    client.loop_stop()
    return len(acknowledged)


BENCHMARK = Benchmark(
    "messages acknowledged, offsets committed",
    own="topic",
    server=LocalMosquitto,
    options=lambda server: {"url": server.url},
    peers=one_by_one("paho publish", _publish, rows=20_000),
)
