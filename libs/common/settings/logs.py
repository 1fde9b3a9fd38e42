"""Settings for reading application, HTTP and proxy logs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from libs.common.settings.base import Group

_MAX_NAME = 200
Member = Annotated[str, StringConstraints(min_length=1, max_length=_MAX_NAME)]


class LogLineSettings(Group):
    """Application, HTTP and proxy logs."""

    fields: dict[str, tuple[Member, ...]] = Field(
        default_factory=dict,
        description="Members of JSON and logfmt lines for columns of rows, such as body: [event.text], in the order in which "
        "they are looked for, before those that are known anyway. Dots separate the names of nested members.",
    )
    start_pattern: str | None = Field(
        default=None,
        description="Regular expression (RE2) for the beginning of the first line of a record; other lines of a container or "
        "of plain text are joined to the one before. Default: all lines begin a record that are neither indented nor begin "
        "with the words of a Java stack trace.",
    )
    join_lines: int = Field(default=500, ge=1, le=100_000, description="Maximum number of lines that are joined.")
    join_bytes: int = Field(default=262_144, ge=1_000, le=4_000_000, description="Maximum size of joined lines.")
    w3c_fields: tuple[Member, ...] = Field(
        default=(),
        description="Fields of W3C logs whose segment does not name them with #Fields. Default: those of Azure App Service.",
    )

    spans: bool = Field(
        default=True,
        description="Whether requests that have a correlation id or the id of a trace also become rows of type spans, in "
        "topics.spans.",
    )

    @field_validator("start_pattern", mode="before")
    @classmethod
    def _none_if_empty(cls, pattern: object) -> object:
        return None if pattern == "" else pattern
