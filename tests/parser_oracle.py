"""A second flow-log parser, as plain as can be: one dictionary a tuple, written from the format's description alone."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from libs.common.messages.dead_letters import ErrorCode

NSG, VNET = "NetworkSecurityGroupFlowEvent", "FlowLogFlowEvent"
COUNTERS = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")
COMMON = ("time", "src_ip", "dst_ip", "src_port", "dst_port", "protocol", "direction")
COLUMNS = {
    1: (*COMMON, "decision"),
    2: (*COMMON, "decision", "state", *COUNTERS),
    4: (*COMMON, "state", "encryption", *COUNTERS),
}
Letter = tuple[ErrorCode, int, int | None]


class _Bad(Exception):
    pass


@dataclass
class Expected:
    """Rows as dictionaries, dead letters as (code, record offset, tuple index)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)


def expected(records: Iterable[tuple[int, Any]], blob: str, generation: str) -> Expected:
    """Parse records, each with its offset."""
    result = Expected()
    for offset, record in records:
        _record(result, offset, record, {"blob": blob, "generation": generation, "record_offset": offset})
    return result


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a flow batch as dictionaries; times as integers, because nanoseconds do not fit a datetime."""
    times = ("time", "record_time")
    columns = {name: batch[name].cast(pa.int64()) if name in times else batch[name] for name in batch.schema.names}
    rows: list[dict[str, Any]] = pa.table(columns).to_pylist()
    return rows


def _record(result: Expected, offset: int, record: dict[str, Any], identity: dict[str, Any]) -> None:
    category: Any = record.get("category")
    body = record.get({NSG: "properties", VNET: "flowRecords"}.get(category, ""))
    if category not in {NSG, VNET}:
        result.letters.append((ErrorCode.UNKNOWN_FORMAT, offset, None))
        return
    if not isinstance(body, dict):
        result.letters.append((ErrorCode.BAD_RECORD, offset, None))
        return
    if not _is_whole(body, ["flows", "flows" if category == NSG else "flowGroups", "flowTuples"]):
        result.letters.append((ErrorCode.BAD_RECORD, offset, None))
        return
    version = body.get("Version") if category == NSG else record.get("flowLogVersion")
    arrays = list(_arrays(category, record, body))
    columns = _columns(category, version, arrays)
    if columns is None:
        result.letters.append((ErrorCode.UNKNOWN_FORMAT, offset, None))
        return
    old = category == NSG
    facts = identity | {
        "category": category,
        "flow_log_version": version,
        "flow_log_id": record.get("flowLogGUID"),
        "resource_id": record.get("resourceId" if old else "flowLogResourceID"),
        "target_id": record.get("targetResourceID"),
        "system_id": record.get("systemId"),
        "record_time": _nanoseconds(record.get("time")),
    }
    elements = [(around, element) for around, array in arrays for element in array]
    for index, (around, element) in enumerate(elements):
        try:
            result.rows.append(facts | around | _tuple(columns, element) | {"tuple_index": index})
        except _Bad as bad:
            result.letters.append((bad.args[0], offset, index))


def _is_whole(body: dict[str, Any], keys: list[str]) -> bool:
    """Tell whether the keys that lead to tuples are there on every level."""
    key, *below = keys
    if key not in body:
        return False
    return not below or all(_is_whole(inside, below) for inside in body[key] or [])


def _arrays(category: str, record: dict[str, Any], body: dict[str, Any]) -> Iterable[tuple[dict[str, Any], list[Any]]]:
    for flow in body.get("flows") or []:
        for group in flow.get("flows" if category == NSG else "flowGroups") or []:
            mac = (group.get("mac") if category == NSG else None) or record.get("macAddress")
            yield (
                {
                    "rule": (flow if category == NSG else group).get("rule"),
                    "acl_id": record.get("resourceId") if category == NSG else flow.get("aclID"),
                    "mac": mac and re.sub("[-:]", "", mac).upper(),
                },
                group.get("flowTuples") or [],
            )


def _columns(category: str, version: object, arrays: list[tuple[dict[str, Any], list[Any]]]) -> tuple[str, ...] | None:
    if category == NSG:
        return COLUMNS[version] if version in {1, 2} else None
    if version == 4:
        return COLUMNS[4]
    if version not in {1, 2}:
        return None
    first = next((array[0] for _, array in arrays if array), None)
    fields = first.split(",") if isinstance(first, str) else []
    return COLUMNS[version] if len(fields) > 5 and re.match("[A-Za-z]", fields[5]) else COLUMNS[4]


def _tuple(columns: tuple[str, ...], element: object) -> dict[str, Any]:
    if not isinstance(element, str) or '"' in element or any(c < " " for c in element):
        raise _Bad(ErrorCode.BAD_RECORD)
    fields = element.split(",")
    if len(fields) < 8:
        raise _Bad(ErrorCode.SHORT_TUPLE)
    if len(fields) > len(columns):
        raise _Bad(ErrorCode.LONG_TUPLE)
    fields += [""] * (len(columns) - len(fields))
    row: dict[str, Any] = dict.fromkeys((*COUNTERS, "state", "encryption"))
    for name, text in zip(columns, fields, strict=True):
        row[name] = _field(name, text, columns)
    states = {"B": "begin", "C": "continuing", "E": "end"}
    if "decision" in columns:
        decision = row.pop("decision")
        row["action"] = {"A": "allow", "D": "deny"}.get(decision, decision)
    else:
        row["action"] = {"B": "allow", "C": "allow", "E": "allow", "D": "deny"}.get(row["state"])
    row["direction"] = {"I": "inbound", "O": "outbound"}.get(row["direction"], row["direction"])
    row["state"] = (states | {"D": "deny"} if "encryption" in columns else states).get(row["state"], row["state"])
    return row


def _field(name: str, text: str, columns: tuple[str, ...]) -> Any:
    match name:
        case "time":
            time = _number(text, 253_402_300_799_999)
            return time * 1000 if time < 10**11 else time
        case "src_ip" | "dst_ip":
            return _address(text)
        case "src_port" | "dst_port":
            return _number(text, 65_535)
        case "protocol":
            letters = {"T": 6, "U": 17} if "decision" in columns else {}
            return letters[text] if text in letters else _number(text, 255)
        case _ if name in COUNTERS:
            return _number(text, 2**63 - 1) if text else None
        case _:
            return text or None


def _number(text: str, most: int) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) > most:
        raise _Bad(ErrorCode.BAD_NUMBER)
    return int(text)


def _address(text: str) -> str:
    if re.fullmatch(r"\[.*:.*\]", text):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise _Bad(ErrorCode.BAD_ADDRESS) from None
    if "%" in text:
        raise _Bad(ErrorCode.BAD_ADDRESS)
    mapped = getattr(address, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped else str(address)


def _nanoseconds(text: str | None) -> int | None:
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", text or "")
    if not found:
        return None
    seconds = int(datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int((found[2] or "").ljust(9, "0"))


def document(records: list[Any], *, indent: int | None, ascii_only: bool) -> tuple[bytes, list[int]]:
    """Write an envelope; return it with the offset of each record."""
    separators = (",", ":") if indent is None else (", ", ": ")
    text, offsets = b'{"records":[', []
    for number, record in enumerate(records):
        text += (b"," if number else b"") + (b"\r\n " if indent else b"")
        offsets.append(len(text))
        text += json.dumps(record, indent=indent, separators=separators, ensure_ascii=ascii_only).encode()
    return text + b"]}", offsets
