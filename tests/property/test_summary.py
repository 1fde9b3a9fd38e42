"""What the summary adds up does not depend on how flows were cut into writes, nor on when pieces were merged."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from services.sinks.kinds.summary.fold import SOCKET, fold, merge_sessions, merge_sums
from tests.flows import START_MS, Spot, row, table

TIMEOUT_MS = 120_000
_LARGEST = 9 * 10**18
FLOWS = st.lists(
    st.fixed_dictionaries(
        {
            "wait": st.sampled_from([0, 1_000, 60_000, TIMEOUT_MS, TIMEOUT_MS + 1]),
            "src_ip": st.sampled_from(["10.0.0.4", "2001:db8::1"]),
            "dst_ip": st.sampled_from(["10.0.0.4", "10.9.0.9"]),
            "dst_port": st.sampled_from([0, 443, 65_535]),
            "protocol": st.sampled_from([6, 17, 255]),
            "direction": st.sampled_from([None, "inbound", "outbound", "unknown", "X"]),
            "action": st.sampled_from([None, "allow", "deny"]),
            "state": st.sampled_from([None, "begin", "continuing", "end"]),
            "bytes_sent": st.none() | st.integers(0, 2**63 - 1),
            "packets_received": st.none() | st.integers(0, 9),
        }
    ),
    min_size=1,
    max_size=30,
)


def flows_of(content: list[dict[str, Any]]) -> pa.Table:
    """Flows one after the other in time."""
    now, rows = START_MS, []
    for number, values in enumerate(content):
        now += values["wait"]
        rows.append(row(Spot(0, number, 0), time=now, **{name: value for name, value in values.items() if name != "wait"}))
    return table(rows).combine_chunks()


def by_socket(found: pa.Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows by socket, of which there is one each."""
    rows = found.to_pylist()
    known = {tuple(values[name] for name in SOCKET): values for values in rows}
    assert len(known) == len(rows)
    return known


@given(FLOWS, st.lists(st.booleans(), min_size=30, max_size=30), st.lists(st.booleans(), min_size=30, max_size=30))
def test_cuts_and_merges_change_nothing(content: list[dict[str, Any]], cuts: list[bool], merges: list[bool]) -> None:
    """However flows are cut into writes, and whenever what was learnt is merged, sums and sessions are those of all flows."""
    flows = flows_of(content)
    ends = [*(at for at in range(1, len(content)) if cuts[at]), len(content)]
    sessions = pa.table({})
    minutes: dict[int, pa.Table] = {}
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        part = fold(flows.slice(start, end - start), TIMEOUT_MS)
        sessions = part.sessions if not number else pa.concat_tables([sessions, part.sessions])
        if merges[number]:
            sessions = merge_sessions(sessions, TIMEOUT_MS)
        for minute, sums in part.minutes:
            minutes[minute] = pa.concat_tables([minutes[minute], sums]) if minute in minutes else sums
            if merges[number]:
                minutes[minute] = merge_sums(minutes[minute])
    whole = fold(flows, TIMEOUT_MS)
    assert {minute: by_socket(merge_sums(sums)) for minute, sums in minutes.items()} == {
        minute: by_socket(sums) for minute, sums in whole.minutes
    }
    found, expected = by_socket(merge_sessions(sessions, TIMEOUT_MS)), by_socket(whole.sessions)
    for values in (*found.values(), *expected.values()):
        del values["restarted"]  # what it says of is one piece
    assert found == expected


@given(st.lists(st.integers(0, _LARGEST), min_size=2, max_size=5))
def test_sums_end_where_integers_do(values: list[int]) -> None:
    """Sums that no integer holds are the largest one, not a negative one."""
    (_, sums), *_ = fold(flows_of([{"wait": 0}]), TIMEOUT_MS).minutes
    place = sums.schema.get_field_index("bytes_in")
    pieces = [sums.set_column(place, sums.schema.field(place), pa.array([value])) for value in values]
    (merged,) = merge_sums(pa.concat_tables(pieces)).column("bytes_in").to_pylist()
    assert abs(merged - min(sum(values), _LARGEST)) <= _LARGEST // 10**12
