"""What collectors leave in Kafka, and the check that it is what was asked for, once."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from libs.common.messages.resources import decode_resource, key_of
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.demo.arm.server import SUBSCRIPTION, machine
from services.collector.progress import decode_progress
from tests.collector_world import rows_in
from tests.fixtures.kafka import PARTITIONS
from tests.topic_tools import committed_records, read_compacted


@dataclass(frozen=True, slots=True)
class Machines:
    """The virtual machines of Azure in the end; before, those that are `gone` were there as well."""

    count: int
    gone: frozenset[str] = frozenset()
    size: str = "Standard_D2s_v5"

    def names(self) -> list[str]:
        """Return the names of all that are there, in order."""
        return [name for name in (f"vm-{index:06}" for index in range(self.count)) if name not in self.gone]


class Collected:
    """Requests and their states by id; rows by their source, which is a call of a request; resources by their key."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self.requests = {(record.key or b"").decode() for record in committed_records(kafka, topics.collection_requests)}
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows_in([record.value for record in committed_records(kafka, topics.collection_results)]):
            self.rows[row["source"]].append(row)
        state = read_compacted(kafka, topics.collection_state, range(PARTITIONS))
        self.states = {(record.key or b"").decode(): decode_progress(record.value or b"") for record in state}
        resources = read_compacted(kafka, topics.resources, range(PARTITIONS))
        self.resources = {record.key: decode_resource(record.value or b"") for record in resources}

    def assert_answered_once(self, machines: Machines) -> None:
        """Check that each call of each request has one end and every page once, and that there is nothing else.

        Raises:
            AssertionError: if not.
        """
        assert {name for name, progress in self.states.items() if progress.is_over} == self.requests == self.states.keys()
        assert self.rows.keys() == {f"{name}/{n}" for name in self.requests for n in range(self.states[name].calls)}
        for rows in self.rows.values():
            _assert_complete(rows, machines)

    def assert_resources_are(self, machines: Machines) -> None:
        """Check that what is known of resources is what there is.

        Raises:
            AssertionError: if not.
        """
        there = [machine(SUBSCRIPTION, index, machines.size) for index in range(machines.count)]
        states = {key_of(one["id"]): "deleted" if one["name"] in machines.gone else "present" for one in there}
        assert {key: facts.state for key, facts in self.resources.items()} == states
        present = [facts for facts in self.resources.values() if facts.state == "present"]
        assert {json.loads(bytes(facts.properties))["hardwareProfile"]["vmSize"] for facts in present} == {machines.size}


def _assert_complete(rows: list[dict[str, Any]], machines: Machines) -> None:
    places = Counter((row["attempt"], row["kind"], row["answer_number"], row["part"]) for row in rows)
    (end,) = [row for row in rows if row["kind"] == "end"]
    assert set(places.values()) == {1}, f"{end} has rows twice"
    pages = [row for row in rows if row["kind"] == "answer" and row["attempt"] == end["attempt"]]
    assert [row["answer_number"] for row in pages] == list(range(end["pages"])), end
    assert sum(row["elements"] for row in pages) == end["received"], end
    if end["path"].endswith("/nobody"):
        assert (end["status"], end["pages"]) == ("error", 0), end
        return
    assert end["status"] == "success", end
    bodies = [json.loads(row["data"]) for row in pages]
    names = [one["name"] for body in bodies for one in body.get("value", body.get("data", [body]))]
    assert len(names) == len(set(names)), end
    wanted = end["path"].rpartition("/")[2]
    if wanted.startswith("vm-"):
        assert names == [wanted], end
    else:
        assert [name for name in names if name not in machines.gone] == machines.names(), end
