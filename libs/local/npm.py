"""Packages from npm, with exactly the versions and content that a lock file in ``deploy/local`` names."""

from __future__ import annotations

import shutil
from pathlib import Path

from libs.local.cache import Recipe, fetched
from libs.local.node import Node
from libs.local.resources import resource
from libs.local.tools import run_tool


def packages(name: str, node: Node) -> Path:
    """Return the directory with the ``node_modules`` of ``deploy/local/<name>``, fetched once. Raises `ServerMissing`."""
    sources = (resource(f"{name}/package.json"), resource(f"{name}/package-lock.json"))

    def fetch(target: Path) -> None:
        for source in sources:
            shutil.copy(source, target)
        quiet = ("--no-audit", "--no-fund", "--loglevel=error")
        run_tool((*node.npm, "ci", "--ignore-scripts", *quiet), f"fetching the packages of {name} with npm", target)

    return fetched(Recipe(name, sources), fetch)
