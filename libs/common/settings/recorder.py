"""Settings of the recorder: HTTP sources, and how the answer of each becomes a record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self
from urllib.parse import urlencode

from pydantic import Field, field_validator, model_validator

from libs.common.security.redaction import is_secret_name
from libs.common.settings.address import split_address
from libs.common.settings.base import Group
from libs.common.settings.http_login import HttpHeaderSettings
from libs.common.settings.secrets import read_secret
from libs.common.settings.transport import TlsSettings

TIMESTAMP: Final = "timestamp"
"""The member of a record that says when its source was asked."""

MOST_ITEMS: Final = 100_000
"""Of one answer: each takes a third of a kilobyte of memory besides its own bytes, which may be two."""

_FORM: Final = "http(s)://host[:port][/path]"
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.\[\]:_/~%-]*")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?")


class SourcePreset(StrEnum):
    """Sources that are known by name. Presets are defaults: other settings of the source override them."""

    NDTWIN_FLOWS = "ndtwin_flows"  # the flows that NDTwin's kernel has detected
    NDTWIN_GRAPH = "ndtwin_graph"  # the topology of its network


class PollMethod(StrEnum):
    """Methods with which a source is asked. A request may be sent twice."""

    GET = "GET"
    POST = "POST"


class Unchanged(StrEnum):
    """What happens with an answer that equals the one before."""

    RECORD = "record"  # it is recorded like any other
    SKIP = "skip"  # the source is asked to say so (ETag), and equal bytes are not recorded again


# The two sources of the Network State Recorder, with the names that they have in its files.
_NDTWIN: Final = {"url": "http://127.0.0.1:8000"}
_PRESETS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        SourcePreset.NDTWIN_FLOWS: {
            **_NDTWIN,
            "name": "flowinfo",
            "path": "/ndt/get_detected_flow_data",
            "wrap": "flowinfo",
        },
        SourcePreset.NDTWIN_GRAPH: {**_NDTWIN, "name": "graphinfo", "path": "/ndt/get_graph_data"},
    }
)


class HttpSourceSettings(HttpHeaderSettings, TlsSettings):
    """One HTTP source. Sign in with at most one of: username and password, api_key, bearer_token."""

    preset: SourcePreset | None = Field(
        default=None,
        description="Defaults for name, url, path and wrap: the flows or the graph of NDTwin's kernel, as the Network State "
        "Recorder records them.",
    )
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="Name, by which its records are known; unique.")
    url: str = Field(description="URL of the server: http(s)://host[:port][/path].")
    path: str = Field(default="", description="Path after the URL, quoted, without a query.")
    method: PollMethod = Field(default=PollMethod.GET, description="Method of the request, which may be sent twice.")
    params: dict[str, str] = Field(default_factory=dict, description="Query, as name: value.")
    param_files: dict[str, Path] = Field(
        default_factory=dict, description="More of the query, with secret values, as name: file that holds the value."
    )
    body: str = Field(default="", description="Body of a POST request; application/json, unless headers say otherwise.")
    interval_seconds: float = Field(default=1.0, ge=0.1, description="Seconds from one request to the next.")
    jitter_seconds: float = Field(
        default=0.0, ge=0, description="Seconds by which each request is delayed at most, at random; less than the interval."
    )
    timeout_seconds: float = Field(default=10.0, gt=0, le=300, description="Maximum seconds for an answer.")
    max_bytes: int = Field(
        default=4_194_304, ge=1, le=67_108_864, description="Maximum size of an answer, decompressed; a larger one is refused."
    )
    wrap: str = Field(
        default="",
        max_length=200,
        description="Member of the record that holds the answer. Empty: the answer's own members, which is then an object, are "
        "the members of the record.",
    )
    items: str = Field(
        default="",
        max_length=2_000,
        description="JMESPath expression over the answer. Each element of the list that it gives, at most 100,000, becomes a "
        "record.",
    )
    unchanged: Unchanged = Field(default=Unchanged.RECORD, description="Whether an answer equal to the last one is recorded.")

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**_PRESETS.get(str(values.get("preset")), {}), **values}

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        split_address(url, ("http", "https"), _FORM)
        if not _ADDRESS.fullmatch(url):
            raise ValueError(f"give addresses as {_FORM}")
        return url

    @field_validator("path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        if not _PATH.fullmatch(path):
            raise ValueError("a path begins with a slash and has no spaces and no query (see params); write others as %XX")
        return path

    @field_validator("wrap")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == TIMESTAMP:
            raise ValueError(f"every record has a member {TIMESTAMP} already: choose another name")
        return name

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.jitter_seconds >= self.interval_seconds:
            raise ValueError("jitter_seconds must be less than interval_seconds")
        if self.body and self.method is PollMethod.GET:
            raise ValueError("body would have no effect: set method: POST")
        for name in self.params:
            if is_secret_name(name):
                raise ValueError(f"the value of {name} is secret: give it under param_files, as {name}: file")
        if twice := sorted(self.params.keys() & self.param_files.keys()):
            raise ValueError(f"{twice[0]} is in params and in param_files")
        return self

    @property
    def address(self) -> str:
        """The address without its query."""
        return self.url.rstrip("/") + self.path

    def query(self) -> str:
        """Read the secret parameters, and return the query with its question mark; empty without any. Raises `ConfigError`."""
        secret = {name: read_secret(f"param_files.{name}", None, file) or "" for name, file in self.param_files.items()}
        values = {**self.params, **secret}
        return f"?{urlencode(values)}" if values else ""


class RecorderSettings(Group):
    """The recorder."""

    sources: tuple[HttpSourceSettings, ...] = Field(default=(), description="HTTP sources.")
    concurrency: int = Field(default=8, ge=1, le=64, description="Sources asked at the same time.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {twice[0]}: give each its own name")
        return self
