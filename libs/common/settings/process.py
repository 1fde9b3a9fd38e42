"""Settings common to every process: health and metrics, logging, and its instance number."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, SecretStr, field_validator

from libs.common.settings.base import Group


class HttpSettings(Group):
    """Health and metrics."""

    host: str = Field(default="127.0.0.1", description="Address on which /metrics, /livez and /readyz are served.")
    port: int = Field(default=9464, ge=0, le=65535, description="Port; 0 picks a free one.")


class LogFormat(StrEnum):
    """Format of log lines."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """Lowest level that is logged."""

    TRACE = "trace"  # also the data itself, where a service can show it: the answers that the recorder gets
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogSettings(Group):
    """Logging."""

    level: LogLevel = Field(default=LogLevel.INFO, description="Lowest level that is logged, in upper or lower case.")
    format: LogFormat = Field(default=LogFormat.CONSOLE, description="console for people, json for one object per line.")
    hidden: tuple[SecretStr, ...] = Field(
        default=(), description="Texts that no output may show, besides the secrets that are known from the settings."
    )

    @field_validator("level", mode="before")
    @classmethod
    def _in_any_case(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level


class InstanceSettings(Group):
    """Which of several identical processes this is."""

    ordinal: int = Field(default=0, ge=0, le=9_999, description="Number of this replica; part of its transactional ids.")
