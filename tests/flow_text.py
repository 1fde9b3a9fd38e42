"""Reads flow-log blobs the slow and obvious way, with the standard library alone, to check generators and parsers against."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

_WORDS = {"I": "inbound", "O": "outbound", "A": "allow", "D": "deny"}
_STATES = {"B": "begin", "C": "continuing", "E": "end", "D": "deny"}
_COUNTERS = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")


def records(blob: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every record of an ASCII blob with the offset of its first byte."""
    text = blob.decode("ascii")
    at = text.index("[") + 1
    while True:
        while text[at] in ", \r\n":
            at += 1
        if text[at] == "]":
            return
        record, end = json.JSONDecoder().raw_decode(text, at)
        yield at, record
        at = end


def rows(blob_id: str, blob: bytes) -> Iterator[dict[str, Any]]:
    """Yield every tuple of a blob as a row of the flow schema without its generation; times as integers."""
    for offset, record in records(blob):
        read = _vnet if record["category"] == "FlowLogFlowEvent" else _nsg
        for index, row in enumerate(read(record)):
            yield row | {
                "category": record["category"],
                "record_time": nanoseconds(record["time"]),
                "blob": blob_id,
                "record_offset": offset,
                "tuple_index": index,
            }


def nanoseconds(text: str) -> int:
    """Return a record's time in ns since 1970."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp())
    return whole * 10**9 + int(fraction.ljust(9, "0"))


def _vnet(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for flow in record["flowRecords"]["flows"]:
        for group in flow["flowGroups"]:
            for text in group["flowTuples"]:
                fields = text.split(",")
                assert len(fields) == 13
                yield {
                    **_start(fields),
                    "time": int(fields[0]),
                    "protocol": int(fields[5]),
                    "action": "deny" if fields[7] == "D" else "allow",
                    "state": _STATES[fields[7]],
                    "encryption": fields[8],
                    **_counters(fields[9:]),
                    "rule": group["rule"],
                    "acl_id": flow["aclID"],
                    "mac": record["macAddress"],
                    "flow_log_version": record["flowLogVersion"],
                    "flow_log_id": record["flowLogGUID"],
                    "resource_id": record["flowLogResourceID"],
                    "target_id": record["targetResourceID"],
                    "system_id": None,
                }


def _nsg(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    version = record["properties"]["Version"]
    for flow in record["properties"]["flows"]:
        for of_mac in flow["flows"]:
            for text in of_mac["flowTuples"]:
                fields = text.split(",")
                assert len(fields) == {1: 8, 2: 13}[version]
                yield {
                    **_start(fields),
                    "time": int(fields[0]) * 1000,
                    "protocol": {"T": 6, "U": 17}[fields[5]],
                    "action": _WORDS[fields[7]],
                    "state": _STATES[fields[8]] if version == 2 else None,
                    "encryption": None,
                    **_counters(fields[9:] if version == 2 else [""] * 4),
                    "rule": flow["rule"],
                    "acl_id": record["resourceId"],
                    "mac": of_mac["mac"],
                    "flow_log_version": version,
                    "flow_log_id": None,
                    "resource_id": record["resourceId"],
                    "target_id": None,
                    "system_id": record["systemId"],
                }


def _start(fields: list[str]) -> dict[str, Any]:
    return {
        "src_ip": str(ipaddress.ip_address(fields[1].strip("[]"))),
        "dst_ip": str(ipaddress.ip_address(fields[2].strip("[]"))),
        "src_port": int(fields[3]),
        "dst_port": int(fields[4]),
        "direction": _WORDS[fields[6]],
    }


def _counters(fields: list[str]) -> dict[str, int | None]:
    return {name: int(text) if text else None for name, text in zip(_COUNTERS, fields, strict=True)}
