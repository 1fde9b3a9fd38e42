"""Settings of the sinks, unvalidated: each sink checks its own options."""

from __future__ import annotations

from typing import Any

SinkOptions = dict[str, dict[str, Any]]
