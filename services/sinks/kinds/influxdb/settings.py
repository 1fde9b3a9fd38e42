"""The settings of the ``influxdb`` sink."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from libs.common.http.authorization import authorization
from libs.common.settings.base import listed
from libs.common.settings.secrets import read_secret
from services.sinks.frame.http import HttpHostsSettings
from services.sinks.frame.settings import DocumentBatchSettings, SinkSettings

# No control characters, and nothing that line protocol or a query language would take for something else.
Measurement = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f\\\"'_#][^\x00-\x1f\x7f\\\"']{0,199}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]


class InfluxApi(StrEnum):
    """The versions of the API for writing."""

    V1 = "v1"
    V2 = "v2"
    V3 = "v3"


class InfluxSettings(SinkSettings, HttpHostsSettings):
    """sinks.influxdb."""

    ways_to_sign_in: ClassVar[tuple[str, ...]] = ("password", "token")

    batch: DocumentBatchSettings = DocumentBatchSettings()
    hosts: tuple[str, ...] = Field(
        default=("http://127.0.0.1:8086",), min_length=1, description="URLs, used in rotation: a list, or comma-separated."
    )
    api: InfluxApi = Field(
        default=InfluxApi.V2, description="API to write by: v1 (/write), v2 (/api/v2/write) or v3 (/api/v3/write_lp)."
    )
    token: SecretStr | None = Field(default=None, description="v2, v3: API token.")
    token_file: Path | None = Field(default=None, description="v2, v3: file that holds the API token.")
    database: Name = Field(default="blobtide", description="v1, v3: database.")
    retention_policy: Name | None = Field(default=None, description="v1: retention policy. Default: that of the database.")
    org: Name = Field(default="blobtide", description="v2: organization.")
    bucket: Name = Field(default="blobtide", description="v2: bucket.")
    retention_days: int = Field(
        default=0, ge=0, le=36_500, description="Days after which points expire, in what sink-setup creates. 0: never."
    )
    overwrites: bool = Field(
        default=True,
        description="Whether the server replaces a point that is written again, as InfluxDB does; false for VictoriaMetrics.",
    )
    measurement: Measurement | None = Field(default=None, description="Measurement of the points. Default: the row type.")
    tags: tuple[str, ...] | None = Field(
        default=None,
        description="Columns that become tags, a list or comma-separated; others become fields. Default: text that repeats,"
        " except blob, generation and the position.",
    )
    lines: int = Field(default=10_000, ge=1, le=1_000_000, description="Maximum number of points per request.")
    body_bytes: int = Field(default=5_000_000, ge=10_000, le=90_000_000, description="Maximum size of a request, uncompressed.")
    in_flight: int = Field(default=2, ge=1, le=16, description="Concurrent requests.")

    @field_validator("tags", mode="before")
    @classmethod
    def _tags_listed(cls, value: object) -> object:
        return listed(value)

    @model_validator(mode="after")
    def _token_of_the_version(self) -> Self:
        if self.api is InfluxApi.V1 and (self.token is not None or self.token_file is not None):
            raise ValueError("token is for api v2 and v3; v1 has username and password")
        return self

    def sign_in(self) -> dict[str, str]:
        """Read the secrets and return the header that signs in; none without any. Raises `ConfigError`."""
        token = read_secret("token", self.token, self.token_file)
        if token is None:
            return super().sign_in()
        return {"Authorization": f"Token {token}"} if self.api is InfluxApi.V2 else authorization(bearer=token)
