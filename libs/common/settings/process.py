"""Settings that every process has: health and metrics, logging, which of several it is."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, field_validator

from libs.common.settings.base import Group


class HttpSettings(Group):
    """Health and metrics."""

    host: str = Field(default="127.0.0.1", description="Address of /metrics, /livez and /readyz.")
    port: int = Field(default=9464, ge=0, le=65535, description="Port; 0 takes a free one.")


class LogFormat(StrEnum):
    """How log lines look."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """From where on something is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogSettings(Group):
    """Logging."""

    level: LogLevel = Field(default=LogLevel.INFO, description="From where on something is logged; in any case.")
    format: LogFormat = Field(default=LogFormat.CONSOLE, description="console: for people. json: an object a line.")

    @field_validator("level", mode="before")
    @classmethod
    def _in_any_case(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level


class InstanceSettings(Group):
    """Which of several equal processes this is."""

    ordinal: int = Field(default=0, ge=0, le=9_999, description="Distinguishes replicas; part of transactional ids.")
