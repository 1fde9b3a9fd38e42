"""``python -m libs.local.record_jars [SERVER ...]``: write down the sums of the jars that Maven fetches now.

Run it after a change of a POM, and look through what changed before you commit it.
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
    """Write down the sums of what Maven fetches now for `server`, and return the file."""
    pom = resource(f"{server}/pom.xml")
    with tempfile.TemporaryDirectory(prefix="blobtide-jars-") as target:
        copy_dependencies(pom, Path(target), ("-Dmdep.useRepositoryLayout=true",))
        lines = [f"{one.sha256}  {one.coordinates}\n" for one in artifacts_in(Path(target))]
    file = pom.with_name(FILE)
    file.write_text("".join(lines), encoding="utf-8")
    return file


def main(servers: Sequence[str]) -> int:
    """Record the sums for some servers, or all."""
    for server in servers or SERVERS:
        record(server)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
