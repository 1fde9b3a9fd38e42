"""Read a YAML file into plain values, or report on one line where it is invalid.

Stricter than YAML libraries: a duplicate name in a group is refused, where they would silently keep the last one. Also refused
is what can only be an attack or a mistake: excessive nesting, and aliases of aliases that would expand to millions of values.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from libs.common.errors import ConfigError
from libs.common.settings.text_file import read_text_file

MOST_VALUES: Final = 200_000
DEEPEST: Final = 64


class _Loader(yaml.SafeLoader):
    """Refuses what the safe loader accepts, and reports the line."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, tuple[int, int]] = {}  # by node: number of values in it, and their depth

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Compose a node and count its values, with aliases expanded."""
        self._depth += 1
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        if self._depth > DEEPEST:
            raise ComposerError(None, None, f"nested more than {DEEPEST} levels deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise ComposerError(None, None, "a value contains itself", mark)
        elif node is not None:
            self._measure(node, mark)
        return node

    def _measure(self, node: Node, mark: Any) -> None:
        if isinstance(node.value, str):
            inner = []
        elif isinstance(node, MappingNode):
            inner = [part for pair in node.value for part in pair]
        else:
            inner = node.value
        sizes = [self._sizes[id(part)] for part in inner]
        size = 1 + sum(count for count, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
        if size[0] > MOST_VALUES or size[1] > DEEPEST:
            raise ComposerError(None, None, f"aliases expand to more than {MOST_VALUES:,} values or {DEEPEST} levels", mark)
        self._sizes[id(node)] = size

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - theirs
        seen = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and (key.tag, key.value) in seen:
                raise ConstructorError(None, None, f"duplicate name {key.value}", key.start_mark)
            seen.add((key.tag, key.value) if isinstance(key, ScalarNode) else key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - theirs
        try:
            return super().construct_object(node, deep)
        # Raised by its constructors for 30 February, a time before year 1, !!bool x, or a number of 5,000 digits.
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
            raise ConstructorError(
                None, None, f"not a valid {node.tag.rpartition(':')[2]}: {error}", node.start_mark
            ) from error


def read_yaml(file: Path) -> Any:
    """Return the contents of `file` as plain values.

    Raises:
        ConfigError: it cannot be read or is not valid; with line and column where they are known.
    """
    text = read_text_file(file, "")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - it derives from the safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{file}{where}: not valid YAML: {problem}") from error
