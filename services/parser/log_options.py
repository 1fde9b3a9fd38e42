"""Check the settings of logs, and give them to the kernel."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import ConfigError
from libs.common.settings.logs import LogLineSettings
from libs.common.suggestions import did_you_mean
from services.parser.logs.formats.generic import COLUMNS
from services.parser.logs.joining import Joining
from services.parser.logs.options import LogOptions


def log_options(settings: LogLineSettings) -> LogOptions:
    """Return how logs are read.

    Raises:
        ConfigError: if a column is unknown, or the pattern is none.
    """
    for name in settings.fields:
        if name not in COLUMNS:
            raise ConfigError(
                f"parser.logs.fields: no column {name}{did_you_mean(name, COLUMNS)}; known are {', '.join(sorted(COLUMNS))}"
            )
    if settings.start_pattern is not None:
        try:
            pc.match_substring_regex(pa.array([""]), settings.start_pattern)
        except pa.ArrowInvalid as error:
            raise ConfigError(f"parser.logs.start_pattern: {error}") from error
    joining = Joining(settings.start_pattern, settings.join_lines, settings.join_bytes)
    return LogOptions(settings.fields, joining, settings.w3c_fields, settings.spans)
