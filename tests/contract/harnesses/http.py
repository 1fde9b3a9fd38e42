"""The http sink's destination: a real web service that keeps bodies, and drops those whose key it knows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer, some_at_a_time
from tests.flows import Spot
from tests.receiver import Kept, LocalReceiver
from tests.row_samples import document, position_of, row, text_column

MODES = ("lines", "array", "csv", "no_keys")
WITHOUT_TLS = {"hosts": ["http://a"], "bearer_token": "t"}
MARKS = ()
_BAD = "no receiver takes this"


class HttpHarness(Harness):
    """Requests; the mode is the layout of bodies, or that they have no keys."""

    def __init__(self, case: Case, server: LocalReceiver) -> None:
        super().__init__(case)
        self.server = server
        self.place = server.place()
        self._set_rules()

    def options(self) -> dict[str, Any]:
        """Bodies so small that a message makes several."""
        form: dict[str, dict[str, Any]] = {
            "lines": {"compression": "none"},
            "array": {"layout": "array"},
            "csv": {"format": "csv", "ordered": True},
            "no_keys": {"idempotency_header": ""},
        }
        place = {"hosts": [self.server.url], "path": f"{self.place.path}/{{rows}}", "timeout_seconds": 5}
        return {**place, "body_rows": 3, **form[self.case.mode]}

    def read(self) -> Content:
        """Return the rows of all bodies. No body of a key came twice; the same row came as the same text."""
        kept = self.place.kept()
        keys = [request.headers.get("idempotency-key") for request in kept]
        assert self.case.mode == "no_keys" or len(set(keys)) == len(keys)
        content: Content = {}
        for request in kept:
            assert request.path == f"{self.place.path}/{self.case.row_type.name}"
            for values in self._rows(request):
                assert content.setdefault(self._position(values), values) == values
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat."""
        row_type = self.case.row_type
        if self.case.mode != "csv":
            return {position_of(row_type, one): document(row_type, one) for one in rows}
        texts = ({name: _csv(document(row_type, one).get(name)) for name in row_type.names} for one in rows)
        return {self._position(one): one for one in texts}

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the server; a new one has to be told its rules."""
        with killed(self.server):
            yield
        self._set_rules()

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Refuse every body as if its content were bad."""
        self.place.rules(always=422)
        try:
            yield
        finally:
            self._set_rules()

    def refused(self) -> Row:
        """A row with a text that the receiver does not like."""
        return row(self.case.row_type, Spot(1, 0, 90), **{text_column(self.case.row_type): _BAD})

    def _set_rules(self) -> None:
        self.place.rules(bad_text=_BAD, keys=self.case.mode != "no_keys")

    def _rows(self, request: Kept) -> list[dict[str, Any]]:
        text = request.body.decode()
        match self.case.mode:
            case "array":
                assert request.headers["content-type"] == "application/json"
                found: list[dict[str, Any]] = json.loads(text)
                return found
            case "csv":
                assert request.headers["content-type"].startswith("text/csv")
                return list(csv.DictReader(io.StringIO(text, newline="")))
            case _:
                assert request.headers["content-type"] == "application/x-ndjson"
                return [json.loads(line) for line in text.split("\n")[:-1]]

    def _position(self, values: Row) -> Any:
        return position_of(self.case.row_type, values)


def _csv(value: Any) -> str:
    return "" if value is None else str(value)


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an unused path."""
    return HttpHarness(case, request.getfixturevalue("receiver"))


def _post(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    done = 0
    with urllib3.PoolManager() as http:
        for some in some_at_a_time(rows, 1_000):
            answer = http.request("POST", f"{options['hosts'][0]}{options['path']}", json=some)
            done += len(some) if answer.status == HTTPStatus.OK else 0
    return done


BENCHMARK = Benchmark(
    "requests answered, offsets committed",
    own="path",  # a directory is one that the receiver does not keep
    is_directory=True,
    server=LocalReceiver,
    options=lambda server: {"hosts": [server.url]},
    peers=(Peer("urllib3, json.dumps of 1,000 rows", _post),),
)
