"""Microsoft's published samples, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import SecretStr

from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from tests.pipeline import Pipeline, Plan, read_rows, row_count
from tests.samples import TOTALS, document

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(300)]

PATH = "resourceId=/{sample}/y=2023/m=07/d=09/h=04/m=00/macAddress=0022485D8CF8/PT1H.json"


def upload(azurite: LocalAzurite, container: str) -> None:
    """Put every sample into storage: the bare record as the one data block of a blob, the others as they are."""
    account = StorageAccount(connection_string=SecretStr(azurite.connection_string))
    writer = BlobWriter(account, "test.local")
    for sample in TOTALS:
        target = Target(container, PATH.format(sample=sample))
        data = document(sample)
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
    expected = sum(totals.tuples for totals in TOTALS.values())
    with Pipeline(plan).running() as pipeline:
        pipeline.wait(lambda: row_count(plan.rows_directory) >= expected, 120, f"{expected} rows in files")
    rows = read_rows(plan.rows_directory)
    for sample, totals in TOTALS.items():
        of_sample = rows.filter(pc.match_substring(rows["blob"], f"/{sample}/"))
        assert of_sample.num_rows == totals.tuples, sample
        assert {name: counts(of_sample[name]) for name in totals.values} == totals.values, sample
        assert {name: pc.sum(of_sample[name]).as_py() for name in totals.sums} == totals.sums, sample
