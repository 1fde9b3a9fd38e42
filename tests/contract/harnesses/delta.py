"""The delta sink's destination: a table in a directory, or in a container of a real Azurite."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from azure.storage.blob import BlobServiceClient

from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.local.azurite import LocalAzurite
from services.sinks.kinds.delta.settings import DeltaSettings
from services.sinks.kinds.delta.sink import DeltaSink
from tests.contract.harness import Benchmark, Case, Content, Harness, LocalDiskHarness, Row
from tests.contract.peers import Options, Peer, Takes, some_at_a_time
from tests.delta_log import rows_of, tables
from tests.flows import Spot
from tests.row_samples import by_position, row

MODES = ("directory", "azure")
MARKS = pytest.mark.azurite
_PEER_ROWS = 50_000
_TO_MICROSECONDS = {"ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}


class DeltaHarness(LocalDiskHarness):
    """A table with small commits, so that a few rows make several."""

    def __init__(self, case: Case, directory: Path) -> None:
        super().__init__(case, directory / "state")
        self.table = directory / "table"
        self.sink().setup()

    def options(self) -> dict[str, Any]:
        """Commit at ten rows."""
        return {"directory": str(self.directory), "table": str(self.table), "commit_rows": 10}

    def read(self) -> Content:
        """Read all rows, as a reader that follows the protocol does."""
        found = rows_of(self.table)
        return {} if found is None else by_position(self.case.row_type, _checked(self.case.row_type, found))

    def recover(self) -> None:
        """Open the state an hour later, so that waiting rows are due."""
        settings = DeltaSettings.model_validate(self.all_options())
        later = DeltaSink(settings, self.case.row_type, clock=lambda: time.time() + 3_600)
        later.open()
        later.close()

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, with times in microseconds."""
        return by_position(self.case.row_type, [_as_stored(self.case.row_type, one) for one in rows])

    def refused(self) -> Row | None:
        """A time that no reader knows."""
        if self.case.row_type is APPLICATION:  # every time in nanoseconds fits
            return None
        return row(self.case.row_type, Spot(1, 0, 90), **{self.case.row_type.time: 2**62})


class AzureHarness(DeltaHarness):
    """The same in a container."""

    def __init__(self, case: Case, directory: Path, server: LocalAzurite) -> None:
        self.server = server
        self.container = f"delta-{uuid4().hex[:12]}"
        with self._service() as service:
            service.create_container(self.container)
        super().__init__(case, directory)

    def options(self) -> dict[str, Any]:
        """Sign in by the connection string of the emulator."""
        place = {"table": f"az://{self.container}/some/table", "storage": {"connection_string": self.server.connection_string}}
        return super().options() | place

    def read(self) -> Content:
        """Fetch the table and read it."""
        with self._service() as service, service.get_container_client(self.container) as container:
            for blob in container.list_blobs("some/table/"):
                file = self.table / blob.name.removeprefix("some/table/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(container.download_blob(blob.name).readall())
        return super().read()

    def outage(self) -> AbstractContextManager[None]:
        """Stop the server."""
        return self._stopped()

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    def _service(self) -> BlobServiceClient:
        return BlobServiceClient.from_connection_string(self.server.connection_string, use_env_settings=False)


def _checked(row_type: RowType, found: pa.Table) -> pa.Table:
    """Return the rows without the day, after comparing it with their time."""
    days = found.column(row_type.time).cast(pa.timestamp("us")).cast(pa.date32(), safe=False).cast(pa.string())
    assert days.equals(found.column("day"))
    return found.drop_columns(["day"])


def _as_stored(row_type: RowType, values: Row) -> dict[str, Any]:
    units = {one.name: one.type.unit for one in row_type.schema if pa.types.is_timestamp(one.type)}
    return {name: _microseconds(values[name], units.get(name)) for name in row_type.names}


def _microseconds(value: Any, unit: str | None) -> Any:
    if value is None or unit is None:
        return value
    times, per = _TO_MICROSECONDS[unit]
    return value * times // per


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give a new table."""
    if case.mode == "azure":
        return AzureHarness(case, tmp_path, request.getfixturevalue("azurite"))
    return DeltaHarness(case, tmp_path)


def _write(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    import deltalake

    written = 0
    for some in some_at_a_time(rows, _PEER_ROWS):
        deltalake.write_deltalake(Path(options["directory"]) / "peer", pa.Table.from_pylist(some), mode="append")
        written += len(some)
    return written


def _count(_: object, options: Options) -> int:
    places = (Path(options["directory"]) / name for name in ("table", "peer"))
    return sum(rows.num_rows for place in places for rows, _ in tables(place))


BENCHMARK = Benchmark(
    "rows in the table, the last ones in spools, offsets committed",
    own="directory",
    is_directory=True,
    times=5,
    options=lambda _: {"commit_rows": _PEER_ROWS},  # so that rows are committed while the clock runs
    needs_setup=True,
    count=_count,
    peers=(Peer("write_deltalake, from_pylist", _write, Takes.VALUES, ends="rows in the table"),),
)
