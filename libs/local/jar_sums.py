"""The expected jars of local servers: SHA-256 sums recorded in the repository, one line per artifact.

A line of ``deploy/local/<server>/jars.sha256`` is ``<sum>  <group>:<artifact>:<version>[:<classifier>]``. A server is not run
if a jar differs from its recorded sum, is not recorded, or is recorded but missing.

`libs.local.record_jars` writes the lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.local.errors import ArtifactsDiffer

FILE: Final = "jars.sha256"
SERVERS: Final = ("kafka", "opensearch")
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Artifact:
    """A jar's Maven coordinates and its sum."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def coordinates(self) -> str:
        """The name that Maven uses for it."""
        return ":".join(part for part in (self.group, self.artifact, self.version, self.classifier) if part)

    @property
    def file_name(self) -> str:
        """The file name that Maven gives its copy."""
        return "-".join(part for part in (self.artifact, self.version, self.classifier) if part) + ".jar"


def recorded(file: Path) -> dict[str, Artifact]:
    """Return the recorded artifacts by file name."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        digest, coordinates = line.split()
        group, artifact, version, *classifier = coordinates.split(":")
        jar = Artifact(group, artifact, version, "".join(classifier), digest)
        found[jar.file_name] = jar
    return found


def verify(directory: Path, file: Path) -> None:
    """Check that the jars in `directory` are those recorded in `file`.

    Raises:
        ArtifactsDiffer: if they are not; the message names each one that differs.
    """
    if problems := list(_differences({jar.name: jar for jar in directory.glob("*.jar")}, recorded(file))):
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ArtifactsDiffer(
            f"the files fetched by Maven do not match {file} and were discarded: {'; '.join(problems[:_SHOWN])}{more};"
            " they may have been tampered with in transit: ask whoever runs the repository that Maven uses"
        )


def _differences(jars: dict[str, Path], wanted: dict[str, Artifact]) -> Iterator[str]:
    for name in sorted(jars.keys() | wanted.keys()):
        if name not in jars:
            yield f"{wanted[name].coordinates} is missing"
        elif name not in wanted:
            yield f"{name} is not listed"
        elif (digest := sha256(jars[name])) != wanted[name].sha256:
            yield f"{wanted[name].coordinates} has SHA-256 {digest} instead of {wanted[name].sha256}"


def sha256(file: Path) -> str:
    """Return the SHA-256 sum of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def artifacts_in(repository: Path) -> list[Artifact]:
    """Return the jars in a directory laid out as a Maven repository."""
    found = []
    for jar in repository.rglob("*.jar"):
        *group, artifact, version, name = jar.relative_to(repository).parts
        classifier = name.removeprefix(f"{artifact}-{version}").removesuffix(".jar").removeprefix("-")
        found.append(Artifact(".".join(group), artifact, version, classifier, sha256(jar)))
    return sorted(found, key=lambda one: one.coordinates)
