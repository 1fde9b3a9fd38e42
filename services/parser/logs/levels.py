"""Levels of logs as OpenTelemetry's severity numbers, and the level that a line of text names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

DEFAULT_LEVEL: Final = "INFO"

_NAMED: Final = r"\b(?P<level>TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL)\b"

_BY_NAME: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("TRACE", "FINEST", "ALL", "SILLY"), 1),
        **dict.fromkeys(("FINER",), 3),
        **dict.fromkeys(("DEBUG", "FINE", "VERBOSE", "DBG", "D"), 5),
        **dict.fromkeys(("CONFIG",), 7),
        **dict.fromkeys(("INFO", "INFORMATION", "INFORMATIONAL", "INF", "I", "LOG"), 9),
        **dict.fromkeys(("NOTICE",), 10),
        **dict.fromkeys(("WARN", "WARNING", "WRN", "W"), 13),
        **dict.fromkeys(("ERROR", "ERR", "SEVERE", "E"), 17),
        **dict.fromkeys(("CRITICAL", "CRIT"), 18),
        **dict.fromkeys(("ALERT",), 19),
        **dict.fromkeys(("FATAL", "EMERGENCY", "EMERG", "PANIC", "F"), 21),
        # Numbers of pino and bunyan.
        "10": 1,
        "20": 5,
        "30": 9,
        "40": 13,
        "50": 17,
        "60": 21,
    }
)


def severity_numbers(levels: pa.DictionaryArray) -> pa.UInt8Array:
    """Return the number of each level; null if the level is null or unknown."""
    numbers = [_BY_NAME.get(level.strip().upper()) if level is not None else None for level in levels.dictionary.to_pylist()]
    return pa.array(numbers, pa.uint8()).take(levels.indices)


def named_levels(texts: pa.StringArray) -> pa.DictionaryArray:
    """Return the first level that each text names in capitals, else `DEFAULT_LEVEL`."""
    found = pc.struct_field(pc.extract_regex(texts, _NAMED), "level")
    return pc.fill_null(found, DEFAULT_LEVEL).dictionary_encode()
