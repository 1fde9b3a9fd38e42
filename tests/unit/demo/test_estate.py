"""Estates: what is generated, how it is committed, and that the truth about it is true."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.rows.types.flows import FLOW_SCHEMA
from libs.demo.commits import Action, Logs, MinuteCommit, collect
from libs.demo.estate import Estate
from libs.demo.spec import EstateSpec, LogKind, Style
from tests import flow_text
from tests.flows import values_of

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
SPEC = EstateSpec(nics=24, tuples_per_minute=25, minutes=63, start=START)
BUSY = EstateSpec(nics=6, tuples_per_minute=2500, minutes=2)


@pytest.fixture(scope="module")
def commits() -> list[MinuteCommit]:
    """All commits of a small estate over a full hour and the next one's beginning."""
    return list(Estate(SPEC).commits())


@pytest.fixture(scope="module")
def logs(commits: list[MinuteCommit]) -> Logs:
    """What storage holds after these commits."""
    return collect(commits)


@pytest.fixture(scope="module")
def records(logs: Logs) -> dict[BlobId, list[dict[str, Any]]]:
    """The records of every blob, read."""
    return {blob: [record for _, record in flow_text.records(data)] for blob, data in logs.blobs.items()}


def truth_equals_text(logs: Logs) -> bool:
    """Tell whether truth and blobs say the same of every tuple."""
    expected = [row for blob, data in logs.blobs.items() for row in flow_text.rows(str(blob), data)]
    position = lambda row: (row["blob"], row["record_offset"], row["tuple_index"])  # noqa: E731
    return sorted(values_of(logs.truth), key=position) == sorted(expected, key=position)


def tuples_of(record: dict[str, Any]) -> list[str]:
    """Return the text of all tuples of a record in document order."""
    inside = record["flowRecords"] if "flowRecords" in record else record["properties"]
    groups = [group for flow in inside["flows"] for group in flow.get("flowGroups", flow.get("flows"))]
    return [text for group in groups for text in group["flowTuples"]]


def test_the_truth_is_what_the_text_says(logs: Logs) -> None:
    """Every tuple in the bytes stands in the truth, at its position and with its normalised values, and nothing else does."""
    assert logs.truth.num_rows > 30_000
    assert truth_equals_text(logs)


def test_the_truth_has_the_flow_schema_without_the_generation(logs: Logs) -> None:
    """Rows of the pipeline can be compared with the truth column by column."""
    assert logs.truth.schema.equals(pa.schema([field for field in FLOW_SCHEMA if field.name != "generation"]))


def test_every_commit_leaves_a_document(commits: list[MinuteCommit]) -> None:
    """Whatever has been committed is JSON with a list of records, except a head that still stands alone."""
    data: dict[str, bytes] = {}
    opened = 0
    for commit in commits:
        data.update({f"{commit.blob}{block.id}": block.data for block in commit.staged})
        content = b"".join(data.get(f"{commit.blob}{block}", b"") for block in commit.block_ids)
        if commit.action is Action.OPEN:
            opened += 1
            assert content == b'{"records":['
        else:
            assert isinstance(json.loads(content)["records"], list)
    assert opened


def test_blocks_stand_as_azure_puts_them(commits: list[MinuteCommit]) -> None:
    """A head of 12 bytes, one data block a minute before a tail of 2 bytes; all but the first begin with a comma."""
    for commit in commits:
        head, *data, tail = commit.block_ids if commit.action is not Action.OPEN else (*commit.block_ids, "")
        assert head == "A" + "0" * 32
        assert tail in {"Z" + "0" * 32, ""}
        assert all(block[0] == "D" and len(bytes.fromhex(block[1:])) == 16 for block in data)
        if commit.action in {Action.APPEND, Action.FINISH}:
            (block,) = commit.staged
            assert block.id == data[-1]
            assert block.data[:1] == (b"," if len(data) > 1 else b"{")
        else:
            assert not data
            assert {block.data for block in commit.staged} <= {b'{"records":[', b"]}"}


def test_a_blob_only_grows_before_its_tail(commits: list[MinuteCommit]) -> None:
    """Each commit repeats the data blocks of the one before and adds one."""
    before: dict[BlobId, list[str]] = {}
    for commit in commits:
        data = [block for block in commit.block_ids if block[0] == "D"]
        known = before.get(commit.blob, [])
        assert data[: len(known)] == known
        assert len(data) == len(known) + (commit.action in {Action.APPEND, Action.FINISH})
        before[commit.blob] = data


def test_names_are_azures(logs: Logs) -> None:
    """Container, resource, hour and MAC address stand in the name as Azure writes them for each kind."""
    for blob in logs.blobs:
        resource, _, rest = blob.name.partition("/y=")
        assert rest[:29] in {"2026/m=05/d=01/h=12/m=00/macA", "2026/m=05/d=01/h=13/m=00/macA"}
        assert rest.endswith("/PT1H.json")
        if blob.container == "insights-logs-flowlogflowevent":
            assert resource.startswith("flowLogResourceID=/")
            assert "_NETWORKWATCHERRG/NETWORKWATCHER_" in resource
        else:
            assert blob.container == "insights-logs-networksecuritygroupflowevent"
            assert resource.startswith("resourceId=/SUBSCRIPTIONS/")
            assert "/PROVIDERS/MICROSOFT.NETWORK/NETWORKSECURITYGROUPS/" in resource


def test_records_decide_the_hour_of_their_blob(records: dict[BlobId, list[dict[str, Any]]]) -> None:
    """A blob holds the records of its hour, whose flows are 3 to 65 seconds older and may be of the hour before."""
    older = 0
    for blob, inside in records.items():
        hour = 12 if "/h=12/" in blob.name else 13
        assert {datetime.fromisoformat(record["time"]).hour for record in inside} == {hour}
        for row in flow_text.rows(str(blob), b'{"records":' + json.dumps(inside).encode() + b"}"):
            age = row["record_time"] / 1e9 - row["time"] / 1e3
            assert 2.9 <= age <= 65
            older += row["record_time"] // 3_600_000_000_000 != row["time"] // 3_600_000
    assert older


def test_last_blocks_come_after_their_hour(commits: list[MinuteCommit]) -> None:
    """Some blobs get their last block after the hour is over, some even after the next hour's blob has records."""
    finished = [commit for commit in commits if commit.action is Action.FINISH]
    assert len(finished) == SPEC.nics
    assert any(commit.due > START + timedelta(hours=1) for commit in finished)
    late = 0
    grown: set[int] = set()
    for commit in commits:
        late += commit.action is Action.FINISH and commit.nic in grown
        if "/h=13/" in commit.blob.name and commit.action is Action.APPEND:
            grown.add(commit.nic)
    assert late


def test_one_seed_gives_the_same_bytes(commits: list[MinuteCommit]) -> None:
    """The same spec gives the same commits again; another seed gives others."""
    again = list(Estate(SPEC).commits())
    assert [(c.blob, c.due, c.staged, c.block_ids) for c in again] == [(c.blob, c.due, c.staged, c.block_ids) for c in commits]
    other = collect(Estate(EstateSpec(seed=2, nics=24, minutes=1)).commits())
    assert not set(other.blobs) & {commit.blob for commit in commits}


def test_a_minute_does_not_depend_on_the_start(commits: list[MinuteCommit]) -> None:
    """An estate that starts an hour later writes the same blocks, so that a demo can be resumed."""
    later = Estate(EstateSpec(nics=24, tuples_per_minute=25, minutes=3, start=START + timedelta(hours=1)))
    blobs = collect(later.commits()).blobs
    assert blobs
    assert all(collect(commits).blobs[blob] == data for blob, data in blobs.items())


def test_security_group_records_are_cut_near_32_kb() -> None:
    """A busy minute of a security group is several records of one time in one block; one of a virtual network is not cut."""
    commits = list(Estate(BUSY).commits())
    assert truth_equals_text(collect(commits))
    cut = 0
    for commit in commits:
        data = [block.data for block in commit.staged if block.id[0] == "D"]
        for block in data:
            found = list(flow_text.records(b"[" + block.lstrip(b",") + b"]"))
            starts = [offset for offset, _ in found]
            sizes = [stop - start - 1 for start, stop in pairwise(starts)]
            if commit.blob.container == "insights-logs-flowlogflowevent":
                assert max(sizes, default=0) > 100_000 or len(found) == 1
            else:
                assert all(32_150 <= size <= 32_270 for size in sizes)
                assert len({record["time"] for _, record in found}) == 1
                cut += len(sizes) > 2
    assert cut


def test_every_peculiarity_of_the_format_occurs(records: dict[BlobId, list[dict[str, Any]]], logs: Logs) -> None:
    """A small estate has every case that readers stumble over."""
    inside = [record for of_blob in records.values() for record in of_blob]
    vnet = [record for record in inside if "flowRecords" in record]
    nsg = [record for record in inside if "properties" in record]
    texts: dict[int, Counter[str]] = {version: Counter() for version in (1, 2, 4)}
    for record in inside:
        version = record.get("flowLogVersion") or record["properties"]["Version"]
        texts[version].update(tuples_of(record))
    assert Counter(map(_category, inside)).keys() == _KINDS
    for text in texts.values():
        assert max(text.values()) > 1, "identical tuples"
        assert any(":" in one for one in text), "IPv6"
    assert any(one.endswith(",D,B,,,,") for one in texts[2])
    assert any(one.endswith(",A,B,,,,") for one in texts[2])
    assert any(one.endswith(",A,E,0,0,0,0") for one in texts[2])
    assert any(one.endswith((",A,E,,,,", ",A,C,,,,")) for one in texts[2]), "stateless rules count nothing"
    assert any(",A,C," in one and not one.endswith(",,,,") for one in texts[2])
    assert any(",B,NX,0,0,0,0" in one for one in texts[4])
    assert any(",B,NX,,,," in one for one in texts[4])
    assert any(",D,NX,0,0,0,0" in one for one in texts[4])
    assert any(one.split(",")[5] not in {"6", "17"} for one in texts[4])
    assert any("[" in one for one in texts[4])
    assert len({one.split(",")[8] for one in texts[4]}) == 9
    acls = {(flow["aclID"], group["rule"]) for r in vnet for flow in r["flowRecords"]["flows"] for group in flow["flowGroups"]}
    assert ("00000000-0000-0000-0000-000000000000", "PlatformRule") in acls
    assert ("unspecified", "unspecified") in acls
    assert any(_recurs([flow["aclID"] for flow in record["flowRecords"]["flows"]]) for record in vnet)
    assert any(flow == {"aclID": "unspecified", "flowGroups": []} for r in vnet for flow in r["flowRecords"]["flows"])
    assert any(not rule["flows"] for record in nsg for rule in record["properties"]["flows"])
    assert any(record["flowRecords"]["flows"] == [] for record in vnet)
    assert any(record["properties"]["flows"] == [] for record in nsg)
    assert len({tuple(record) for record in vnet}) == 4, "key orders"
    assert any(next(iter(record["properties"])) == "flows" for record in nsg)
    assert any("macAddress" not in record for record in nsg)
    assert len({len(record["time"]) for record in inside}) > 1, "fewer fractional digits"
    assert {record["targetResourceID"].split("/")[-2] for record in vnet} >= {"virtualNetworks"}
    assert logs.truth.num_rows == sum(sum(text.values()) for text in texts.values())


_KINDS = {("FlowLogFlowEvent", 4), ("NetworkSecurityGroupFlowEvent", 2), ("NetworkSecurityGroupFlowEvent", 1)}


def _category(record: dict[str, Any]) -> tuple[str, int]:
    return record["category"], record.get("flowLogVersion") or record["properties"]["Version"]


def _recurs(names: list[str]) -> bool:
    return any(name in names[: at - 1] and names[at - 1] != name for at, name in enumerate(names))


def test_states_of_one_instant_come_in_any_order(records: dict[BlobId, list[dict[str, Any]]]) -> None:
    """One 5-tuple ends before it begins, and begins, ends and begins, within one millisecond."""
    orders: set[str] = set()
    for inside in records.values():
        for record in inside:
            if "flowRecords" not in record:
                continue
            at_once: dict[str, str] = defaultdict(str)
            for text in tuples_of(record):
                fields = text.split(",")
                at_once[",".join(fields[:7])] += fields[7]
            orders.update(at_once.values())
    assert {"EB", "BEB", "DD", "EE"} <= orders


def test_long_flows_begin_continue_and_end(records: dict[BlobId, list[dict[str, Any]]]) -> None:
    """Some flows live for a quarter of an hour over many blocks: begin, continuing every five minutes, end."""
    lives: dict[str, str] = defaultdict(str)
    for blob, inside in records.items():
        for record in inside:
            if "flowRecords" in record:
                for text in tuples_of(record):
                    fields = text.split(",")
                    lives[f"{blob.name[-25:]}{fields[1:7]}"] += fields[7]
    assert list(lives.values()).count("BCCE") > 50


def test_some_blocks_hold_two_records(commits: list[MinuteCommit]) -> None:
    """A block of a virtual network's log is sometimes two records with different times."""
    counts = Counter(
        len(json.loads(b"[" + block.data.lstrip(b",") + b"]"))
        for commit in commits
        for block in commit.staged
        if commit.blob.container == "insights-logs-flowlogflowevent" and block.id[0] == "D"
    )
    assert counts.keys() == {1, 2}


def test_a_log_may_change_its_version_in_mid_blob() -> None:
    """With an upgrade, version 1 records are followed by version 2 records in one blob, and the truth follows."""
    logs = collect(Estate(EstateSpec(nics=4, kinds=(LogKind.NSG1,), minutes=6, upgrade_after=3)).commits())
    assert truth_equals_text(logs)
    for data in logs.blobs.values():
        assert [record["properties"]["Version"] for _, record in flow_text.records(data)] == [1, 1, 1, 2, 2, 2]


def test_old_blobs_are_indented() -> None:
    """The pretty style has a head of 21 and a tail of 9 bytes and records over many lines, and the truth points into them."""
    spec = EstateSpec(nics=6, minutes=3, style=Style.PRETTY)
    commits = list(Estate(spec).commits())
    logs = collect(commits)
    assert truth_equals_text(logs)
    created = next(commit for commit in commits if commit.action is Action.CREATE)
    assert [len(block.data) for block in created.staged] == [21, 9]
    assert all(json.loads(data)["records"] and data.count(b"\n") > 100 for data in logs.blobs.values())


@pytest.mark.parametrize("rate", [28, 3000])
def test_interfaces_are_as_busy_as_asked(rate: int) -> None:
    """The mean number of tuples of an interface's minute is the spec's, within a few per cent."""
    spec = EstateSpec(nics=60_000 // rate, tuples_per_minute=rate, minutes=2)
    mean = collect(Estate(spec).commits()).truth.num_rows / spec.nics / 2
    assert mean == pytest.approx(rate, rel=0.05)


def test_blobs_do_not_depend_on_how_many_interfaces_fit_in_memory() -> None:
    """An estate that is generated in several groups has one truth and blobs for all interfaces."""
    spec = EstateSpec(nics=3, tuples_per_minute=90_000, minutes=1, kinds=(LogKind.NSG2,))
    logs = collect(Estate(spec).commits())
    assert len(logs.blobs) == 3
    assert set(logs.truth["blob"].cast(pa.string()).unique().to_pylist()) == set(map(str, logs.blobs))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nics": 0}, "nics is 0"),
        ({"minutes": 0}, "minutes is 0"),
        ({"tuples_per_minute": 10**6}, "tuples_per_minute is 1000000"),
        ({"kinds": ()}, "kinds is empty"),
        ({"start": datetime(2026, 5, 1)}, "no time zone"),  # noqa: DTZ001 - what is refused
    ],
)
def test_impossible_specs_are_refused(values: dict[str, Any], words: str) -> None:
    """A spec that cannot be generated is refused with the value and its bounds."""
    with pytest.raises(ConfigError, match=words):
        EstateSpec(**values)
