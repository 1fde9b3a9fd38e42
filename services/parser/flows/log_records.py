"""Typed records: one decode per record, with tuple arrays kept as raw bytes and unneeded fields skipped. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from libs.common.messages.dead_letters import ErrorCode
from services.parser.flows.formats import nsg, vnet
from services.parser.flows.formats.layout import TupleLayout
from services.parser.flows.groups import Name, TupleArrays
from services.parser.framing import NOT_JSON


class LogRecord(msgspec.Struct, gc=False):
    """A record of any known category, or a nested envelope (`records`)."""

    # Field names are those of the log.
    category: str | None = None
    time: str | None = None
    macAddress: Name | None = None  # noqa: N815
    systemId: Name | None = None  # noqa: N815
    resourceId: Name | None = None  # noqa: N815
    properties: nsg.Properties | None = None
    flowLogVersion: int | None = None  # noqa: N815
    flowLogGUID: Name | None = None  # noqa: N815
    flowLogResourceID: Name | None = None  # noqa: N815
    targetResourceID: Name | None = None  # noqa: N815
    flowRecords: vnet.FlowRecords | None = None  # noqa: N815
    records: msgspec.Raw = msgspec.Raw()

    @property
    def is_envelope(self) -> bool:
        """Whether this is not a record but an object that contains records."""
        return self.category is None and len(self.records) > 0 and self.properties is None and self.flowRecords is None

    @property
    def version(self) -> int | None:
        """The version declared by the record."""
        if self.category != nsg.CATEGORY:
            return self.flowLogVersion
        return None if self.properties is None else self.properties.Version


class _VnetRecord(LogRecord, gc=False):
    """A VNet record, in which the body of an NSG record may be anything."""

    properties: msgspec.Raw = msgspec.Raw()  # type: ignore[assignment]


class _NsgRecord(LogRecord, gc=False):
    """An NSG record, in which the body of a VNet record may be anything."""

    flowRecords: msgspec.Raw = msgspec.Raw()  # type: ignore[assignment]  # noqa: N815


class _Category(msgspec.Struct, gc=False):
    category: str | None = None
    records: msgspec.Raw = msgspec.Raw()


class BadRecord(Exception):
    """A record that cannot be read: `code` says why."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


CATEGORIES: Final = frozenset({nsg.CATEGORY, vnet.CATEGORY})

_NO_RECORDS: Final = frozenset({b"[]", b"null"})

_record = msgspec.json.Decoder(LogRecord)
_of_category: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    vnet.CATEGORY: msgspec.json.Decoder(_VnetRecord),
    nsg.CATEGORY: msgspec.json.Decoder(_NsgRecord),
}
_category = msgspec.json.Decoder(_Category)


def decode(value: msgspec.Raw | memoryview) -> LogRecord:
    """Decode one record.

    Raises:
        BadRecord: it has the wrong shape or an unsupported category.
    """
    try:
        return _record.decode(value)
    except NOT_JSON as error:
        return _decoded(value, error)


def collect(record: LogRecord, groups: TupleArrays) -> TupleLayout:
    """Add the tuple arrays of `record` to `groups` and return their columns.

    Raises:
        BadRecord: the record's category or version is unsupported, its body is missing, or it has records besides a body;
            nothing is added then.
    """
    if len(record.records) and bytes(record.records) not in _NO_RECORDS and record.category in CATEGORIES:
        raise BadRecord(ErrorCode.BAD_RECORD, f"{record.category} record that itself contains records")
    if record.category == vnet.CATEGORY and record.flowRecords is not None:
        layout = _known(vnet.layout_of(record.flowRecords, record.flowLogVersion), record)
        vnet.collect(record.flowRecords, record.macAddress, groups)
    elif record.category == nsg.CATEGORY and record.properties is not None:
        layout = _known(nsg.LAYOUTS.get(record.properties.Version or 0), record)
        nsg.collect(record.properties, record.macAddress, record.resourceId, groups)
    elif record.category in CATEGORIES:
        raise BadRecord(ErrorCode.BAD_RECORD, f"{record.category} record without a body")
    else:
        raise _unknown_category(record.category)
    return layout


def _known(layout: TupleLayout | None, record: LogRecord) -> TupleLayout:
    if layout is None:
        raise BadRecord(ErrorCode.UNKNOWN_FORMAT, f"{record.category} version {record.version}: no format knows it")
    return layout


def _decoded(value: msgspec.Raw | memoryview, error: Exception) -> LogRecord:
    """Decode a record of the wrong shape again by its category: fields of other categories may be anything."""
    wrong_shape = BadRecord(ErrorCode.BAD_RECORD, f"record of the wrong shape: {error}")
    try:
        found = _category.decode(value)
        decoder = _of_category.get(found.category or "")
        if decoder is not None:
            record: LogRecord = decoder.decode(value)
            return record
    except NOT_JSON:
        raise wrong_shape from None
    raise wrong_shape if len(found.records) else _unknown_category(found.category)


def _unknown_category(category: str | None) -> BadRecord:
    named = "without a category" if category is None else f"of category {category[:100]!r}"
    return BadRecord(ErrorCode.UNKNOWN_FORMAT, f"record {named}: no format knows it")
