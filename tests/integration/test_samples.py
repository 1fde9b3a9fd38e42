"""Microsoft's published samples, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import SecretStr

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.common.storage.writer import BlobWriter, Target
from libs.local.azurite import LocalAzurite
from tests.pipeline import Pipeline, Plan, read_rows, row_count

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(300)]

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
PATH = "resourceId=/{sample}/y=2023/m=07/d=09/h=04/m=00/macAddress=0022485D8CF8/PT1H.json"
# Totals of tests/data/samples/README.md: tuples, then how many rows have which value, then sums.
TOTALS: dict[str, tuple[int, dict[str, dict[object, int]], dict[str, int]]] = {
    "nsg_v1_nested_records": (
        21,
        {"action": {"allow": 15, "deny": 6}, "protocol": {6: 19, 17: 2}, "direction": {"inbound": 21}, "state": {None: 21}},
        {},
    ),
    "nsg_v1_empty_flows": (40, {"direction": {"inbound": 4, "outbound": 36}}, {}),
    "nsg_v2": (
        11,
        {"state": {"begin": 8, "continuing": 1, "end": 2}, "action": {"allow": 4, "deny": 7}},
        {"packets_sent": 46, "bytes_sent": 25533, "packets_received": 37, "bytes_received": 21128},
    ),
    "vnet_v4": (
        19,
        {"state": {"begin": 5, "deny": 9, "end": 5}, "direction": {"inbound": 9, "outbound": 10}},
        {"packets_sent": 33, "bytes_sent": 4528, "packets_received": 44, "bytes_received": 43292},
    ),
    "vnet_v4_bare_record": (10, {"action": {"deny": 10}, "direction": {"inbound": 10}}, {}),
}


def upload(azurite: LocalAzurite, container: str) -> None:
    """Put every sample into storage: the bare record as the one data block of a blob, the others as they are."""
    account = StorageAccount(connection_string=SecretStr(azurite.connection_string))
    writer = BlobWriter(account, "test.local")
    for sample in TOTALS:
        target = Target(container, PATH.format(sample=sample))
        data = (SAMPLES / f"{sample}.json").read_bytes()
        if sample.endswith("bare_record"):
            blocks = {"A" + "0" * 32: b'{"records":[', "D" + "1" * 32: data, "Z" + "0" * 32: b"]}"}
            for name, content in blocks.items():
                writer.stage_block(target, name, content)
            writer.commit_blocks(target, tuple(blocks))
        else:
            writer.put(target, data)
    writer.close()


def counts(column: pa.ChunkedArray) -> dict[object, int]:
    """Return how often each value occurs."""
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


def test_the_published_samples_arrive_with_their_published_totals(
    kafka_settings: KafkaSettings, topics: TopicSettings, azurite: LocalAzurite, container: str, tmp_path: Path
) -> None:
    """Every sample, malformed ones too, gives the rows and the sums that its README states."""
    upload(azurite, container)
    sinks = {"file": {"directory": str(tmp_path / "flows"), "format": "parquet", "rotate_seconds": 1}}
    plan = Plan(kafka_settings, topics, azurite, (container,), tmp_path, sinks)
    expected = sum(total for total, _, _ in TOTALS.values())
    with Pipeline(plan).running() as pipeline:
        pipeline.wait(lambda: row_count(plan.rows_directory) >= expected, 120, f"{expected} rows in files")
    rows = read_rows(plan.rows_directory)
    for sample, (total, values, sums) in TOTALS.items():
        of_sample = rows.filter(pc.match_substring(rows["blob"], f"/{sample}/"))
        assert of_sample.num_rows == total, sample
        assert {name: counts(of_sample[name]) for name in values} == values, sample
        assert {name: pc.sum(of_sample[name]).as_py() for name in sums} == sums, sample
