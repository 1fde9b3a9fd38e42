"""The declaration of topics, ``topics.yaml``. Entries have the names of `TopicSettings` fields, so topics can be renamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError

from libs.common.errors import ConfigError
from libs.common.settings.base import Group
from libs.common.settings.kafka import TopicSettings

_ROOT: Final = Path(__file__).resolve().parents[4]
# In a checkout, and in an installed wheel.
_PLACES: Final = (_ROOT / "deploy" / "topics.yaml", _ROOT / "services" / "cli" / "deploy" / "topics.yaml")
_SAFE_REPLICATION = 3


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What one topic should be. `field` names it in `TopicSettings`."""

    field: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]
    # Fields of topics joined by partition number, including this one: a blob must stay on its partition, so the number of
    # partitions can never grow.
    joined: tuple[str, ...] = ()

    def name(self, topics: TopicSettings) -> str:
        """Return the name of the topic in `topics`."""
        return str(getattr(topics, self.field))


class _Topic(Group):
    partitions: int | None = Field(default=None, ge=1)
    config: dict[str, str | bool | int | float] = Field(default_factory=dict)


class _File(Group):
    replication_factor: int = Field(default=1, ge=1)
    partitions: int = Field(default=6, ge=1)
    config: dict[str, str | bool | int | float] = Field(default_factory=dict)
    joined_by_position: tuple[tuple[str, ...], ...] = ()
    topics: dict[str, _Topic]


def load_topic_specs(path: Path | None = None, replication_factor: int | None = None) -> list[TopicSpec]:
    """Read a declaration; without `path`, the one that comes with blobtide.

    Raises:
        ConfigError: if it is unreadable, has unknown names, or joins topics with different numbers of partitions.
    """
    file = path or _own_file()
    declared = _read(file)
    replicas = replication_factor or declared.replication_factor
    specs = [_spec(field, topic, declared, replicas) for field, topic in declared.topics.items()]
    for spec in specs:
        if spec.field not in TopicSettings.model_fields:
            raise ConfigError(f"{file}: unknown topic {spec.field}; known topics are {', '.join(TopicSettings.model_fields)}")
    _check_joined(file, declared, {spec.field: spec.partitions for spec in specs})
    return specs


def _own_file() -> Path:
    for place in _PLACES:
        if place.exists():
            return place
    raise ConfigError("topics.yaml is missing from this installation; give --file")


def _read(file: Path) -> _File:
    try:
        values: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        return _File(**values)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise ConfigError(f"{file}: not a topic declaration: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ConfigError(f"{file}: {problems}") from error


def _spec(field: str, topic: _Topic, declared: _File, replicas: int) -> TopicSpec:
    config = {"min.insync.replicas": 2 if replicas >= _SAFE_REPLICATION else 1, **declared.config, **topic.config}
    return TopicSpec(
        field=field,
        partitions=topic.partitions or declared.partitions,
        replication_factor=replicas,
        config={name: _text(value) for name, value in config.items()},
        joined=next((group for group in declared.joined_by_position if field in group), ()),
    )


def _text(value: str | bool | float) -> str:  # noqa: FBT001 - what YAML gives
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_joined(file: Path, declared: _File, partitions: Mapping[str, int]) -> None:
    for group in declared.joined_by_position:
        counts = {field: partitions[field] for field in group if field in partitions}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{field} {count}" for field, count in counts.items())
            raise ConfigError(f"{file}: these topics must have equal partition counts: {listed}")
