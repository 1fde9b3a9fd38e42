"""Jars from Maven: copy the dependencies of a POM in ``deploy/local`` into the cache once, if they match the recorded sums."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from libs.local.cache import Recipe, fetched
from libs.local.errors import ServerMissing
from libs.local.jar_sums import FILE, verify
from libs.local.java import find_java
from libs.local.resources import resource
from libs.local.tools import run_tool

JAVA_MINIMUM: Final = 8
# The full name, so that a failure names the real cause; the POM determines the version.
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies"


def jars(name: str) -> Path:
    """Return the directory with the jars of ``deploy/local/<name>/pom.xml``.

    Raises:
        ServerMissing: if they cannot be obtained.
        ArtifactsDiffer: if they differ from those in ``jars.sha256`` next to the POM; nothing is kept.
    """
    pom, sums = resource(f"{name}/pom.xml"), resource(f"{name}/{FILE}")

    def fetch(target: Path) -> None:
        copy_dependencies(pom, target)
        verify(target, sums)

    return fetched(Recipe(name, (pom, sums)), fetch)


def find_maven(environ: Mapping[str, str] = os.environ) -> str:
    """Return the ``mvn`` on PATH. Raises `ServerMissing`."""
    maven = shutil.which("mvn", path=environ.get("PATH", ""))
    if maven is None:
        raise ServerMissing("Maven is required once, to fetch jars, but mvn is not on PATH: install Maven (Debian: maven)")
    return maven


def copy_dependencies(pom: Path, target: Path, options: Sequence[str] = ()) -> None:
    """Have Maven copy the jars that `pom` needs at run time. Raises `ServerMissing`."""
    # From a copy of the POM: Maven writes next to it, and an installed package may be read-only.
    with tempfile.TemporaryDirectory(prefix="blobtide-maven-") as work:
        shutil.copyfile(pom, Path(work) / "pom.xml")
        goal = (_COPY, "-DincludeScope=runtime", f"-DoutputDirectory={target}", *options)
        argv = (find_maven(), "-q", "-B", "-ntp", *goal)
        run_tool(argv, f"fetching the jars of {pom} with Maven", Path(work), _with_java(os.environ))


def _with_java(environ: Mapping[str, str]) -> dict[str, str]:
    """Point Maven to the Java from the wheel if it would find none itself."""
    if environ.get("JAVA_HOME") or shutil.which("java", path=environ.get("PATH", "")):
        return {}
    return {"JAVA_HOME": str(find_java(JAVA_MINIMUM).parents[1])}
