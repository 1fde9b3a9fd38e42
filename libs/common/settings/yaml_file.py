"""A YAML file as plain values, or one line that says where it is wrong.

Stricter than YAML's own libraries: a name that stands twice in one group is refused, where they would keep the last and drop
the others in silence.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from libs.common.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Refuses what the safe loader lets pass, at its line."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - theirs
        seen = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and (key.tag, key.value) in seen:
                raise ConstructorError(None, None, f"{key.value} stands here a second time", key.start_mark)
            seen.add((key.tag, key.value) if isinstance(key, ScalarNode) else key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - theirs
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:  # what its constructors make of 30 February, or !!bool x
            raise ConstructorError(None, None, f"this is no {node.tag.rpartition(':')[2]}: {error}", node.start_mark) from error


def read_yaml(file: Path) -> Any:
    """Return what `file` holds.

    Raises:
        ConfigError: it cannot be read or is not valid; with line and column as far as they are known.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - it derives from the safe loader
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{file}{where}: not valid YAML: {problem}") from error
