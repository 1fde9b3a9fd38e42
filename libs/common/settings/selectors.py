"""Selectors: which blobs of a container are the logs of which service. Those of Commerce Cloud's services are built in."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from libs.common.messages.events import Stream
from libs.common.settings.base import Group
from libs.common.suggestions import did_you_mean

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "apache-proxy": {
        "prefix": ".apache2-igc-",
        "namespace": "default",
        "container": "proxy",
        "not_pod": "apache2-igc-nat-*",
        "stream": "proxy_logs",
    },
    "api": {"prefix": ".api-", "container": "platform"},
    "backoffice": {"prefix": ".backoffice", "container": "platform"},
    "background-processing": {"prefix": ".backgroundprocessing", "container": "platform"},
    "jsapps": {"prefix": ".jsapps", "container": "jsapps"},
    "imageprocessing": {"prefix": ".imageprocessing", "container": "imageprocessing"},
    "zookeeper": {"prefix": ".zookeeper", "container": "zookeeper"},
}

CONDITIONS: Final = ("pod", "namespace", "container")
"""The parts of names for which a selector may have conditions."""


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Globs = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class SelectorSettings(Group):
    """The blobs of one service. Given as text, it is one of the presets; with the name of a preset, it changes that one."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description=f"Name of the service, which becomes a label. Presets, by name alone: {', '.join(PRESETS)}.",
    )
    prefix: str = Field(
        default="",
        description="What names have after the prefix of the source, or after the date there; applied by the server.",
    )
    pod: Globs = Field(default=(), description="Globs, one of which the pod in the name must match. Default: all.")
    namespace: Globs = Field(default=(), description="The same for the namespace.")
    container: Globs = Field(default=(), description="The same for the container of the pod.")
    not_pod: Globs = Field(default=(), description="Globs, none of which the pod may match.")
    not_namespace: Globs = Field(default=(), description="The same for the namespace.")
    not_container: Globs = Field(default=(), description="The same for the container of the pod.")
    stream: Stream | None = Field(
        default=None, description="Stream, which selects the raw topic for the content. Default: that of the source."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in PRESETS:
                raise ValueError(
                    f"unknown selector {value!r}{did_you_mean(value, PRESETS)}; those known by name are {', '.join(PRESETS)}; "
                    "describe any other: {name: ..., prefix: ...}"
                )
            return {"name": value, **PRESETS[value]}
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return {**PRESETS.get(value["name"], {}), **value}
        return value

    def conditions(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return, by part of the name, the globs of which one must match and those of which none may; parts with any only."""
        globs = {part: (getattr(self, part), getattr(self, f"not_{part}")) for part in CONDITIONS}
        return {part: both for part, both in globs.items() if any(both)}
