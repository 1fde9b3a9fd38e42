"""One name, one meaning."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Kinds of sinks and local servers never meet, and may use the same words.
APART = ("services/sinks/kinds/", "libs/local/")
# What a consumer delivers, and how rows are delivered as records.
SHARED = {"Delivery"}


def test_no_public_class_has_the_name_of_another() -> None:
    """A reader who searches for a class finds one definition."""
    found = defaultdict(list)
    for folder in ("libs", "services"):
        for file in (ROOT / folder).rglob("*.py"):
            place = file.relative_to(ROOT).as_posix()
            for node in [] if place.startswith(APART) else ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(place)
    assert len(found) > 200
    assert {name: places for name, places in found.items() if len(places) > 1 and name not in SHARED} == {}
