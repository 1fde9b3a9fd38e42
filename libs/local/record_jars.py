"""``python -m libs.local.record_jars [SERVER ...]``: record the sums of the jars that Maven currently fetches.

Run it after changing a POM, and review the changes before you commit them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from libs.local.jar_sums import FILE, SERVERS, artifacts_in
from libs.local.maven import copy_dependencies
from libs.local.resources import resource


def record(server: str) -> Path:
    """Record the sums of the jars that Maven currently fetches for `server`, and return the file."""
    pom = resource(f"{server}/pom.xml")
    with tempfile.TemporaryDirectory(prefix="blobtide-jars-") as target:
        copy_dependencies(pom, Path(target), ("-Dmdep.useRepositoryLayout=true",))
        lines = [f"{one.sha256}  {one.coordinates}\n" for one in artifacts_in(Path(target))]
    file = pom.with_name(FILE)
    file.write_text("".join(lines), encoding="utf-8")
    return file


def main(servers: Sequence[str]) -> int:
    """Record the sums for the given servers, or for all."""
    for server in servers or SERVERS:
        record(server)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
