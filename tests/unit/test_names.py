"""One name, one meaning."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a consumer delivers, and a setting of the kafka sink.
SHARED = {"Delivery"}


def test_no_public_class_has_the_name_of_another() -> None:
    """A reader who searches for a class finds one definition."""
    found = defaultdict(list)
    for folder in ("libs", "services"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(str(file.relative_to(ROOT)))
    assert len(found) > 200
    assert {name: files for name, files in found.items() if len(files) > 1 and name not in SHARED} == {}
