"""The import contracts hold for every module, not only for those that somebody thought of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = "services never import each other; the command line may start any of them"
SHARED = "services stand above shared code"
KAFKA = "only libs.common.kafka imports the Kafka client"
AZURE = "only libs.common.azure imports the Azure SDK"
ROWS = "libs.common.rows imports nothing of Kafka"
LIBRARIES = "local servers and demo data stand above what services share"
KINDS = "kinds of sinks never import each other"
TEXTS = "row types and formats do no I/O"
FORMATS = "format modules of the parser, and its kernel of logs, do no I/O"
CIRCLES = "imports go in no circle"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy what the contracts are about."""
    for name in ("libs", "services"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken(checkout: Path) -> set[str]:
    """Return the contracts that do not hold."""
    program = Path(sys.executable).with_name("lint-imports")
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        (program, "--no-logo", "--no-cache"), cwd=checkout, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    return set(re.findall(r"^(.*) BROKEN", done.stdout, re.MULTILINE))


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("services/parser/app.py", "from services.sinks.frame.contract import Sink", SERVICES),
        ("services/blob_monitor/globs.py", "from services.cli.probe import total", SERVICES),
        ("libs/local/ports.py", "import confluent_kafka", KAFKA),
        ("libs/common/process/signals.py", "from confluent_kafka import Producer", KAFKA),
        ("libs/common/settings/kafka.py", "from confluent_kafka.admin import AdminClient", KAFKA),
        ("libs/demo/player.py", "from azure.storage.blob import BlobClient", AZURE),
        ("libs/common/process/crash.py", "import azure.identity", AZURE),
        ("libs/common/rows/reading.py", "from libs.common.kafka.records import Inbound", ROWS),
        ("libs/common/security/redaction.py", "import libs.common.kafka.records", ROWS),
        ("services/parser/flows/formats/vnet.py", "import subprocess", FORMATS),
        ("services/parser/flows/formats/vnet.py", "import sqlite3", FORMATS),
        ("services/parser/flows/formats/vnet.py", "import http.client", FORMATS),
        ("services/parser/flows/formats/nsg.py", "import redis", FORMATS),
        ("services/parser/flows/groups.py", "from pathlib import Path", FORMATS),
        ("libs/common/rows/formats/csv.py", "import pathlib", TEXTS),
        ("libs/common/process/signals.py", "import libs.local.ports", LIBRARIES),
        ("libs/demo/spec.py", "import libs.local.ports", LIBRARIES),
        ("libs/local/ports.py", "import libs.local.kafka", CIRCLES),
        ("libs/common/security/visible.py", "import libs.common.settings.base", CIRCLES),
        ("services/sinks/kinds/stdout/sink.py", "from services.sinks.kinds.summary.table import Totals", KINDS),
    ],
)
def test_an_import_out_of_place_breaks_its_contract(checkout: Path, file: str, line: str, contract: str) -> None:
    """Each service and library has its place; a module anywhere else that imports it is found, for formats also over others."""
    with (checkout / file).open("a") as source:
        source.write(f"\n{line}\n")
    found = broken(checkout)
    assert contract in found
    assert found <= {contract, CIRCLES}  # what comes from above closes a circle too


def test_shared_code_that_imports_a_service_is_found(checkout: Path) -> None:
    """It breaks the contract on layers, and joins every service that uses it with that one."""
    with (checkout / "libs" / "common" / "process" / "crash.py").open("a") as source:
        source.write("\nimport services.sinks.frame.contract\n")
    assert broken(checkout) == {SHARED, SERVICES}


def test_a_new_module_is_covered(checkout: Path) -> None:
    """A module that no contract names is held to them as well."""
    (checkout / "libs" / "common" / "brand_new.py").write_text("import confluent_kafka\n")
    assert broken(checkout) == {KAFKA}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("services/brand_new/app.py", "import services.parser.flows.kernel"),
        ("services/brand_new/app.py", "from services.cli.probe import total"),
        ("services/parser/app.py", "import services.brand_new"),
    ],
)
def test_a_new_service_is_covered(checkout: Path, file: str, line: str) -> None:
    """A service that no contract names imports no other and is imported by none; the command line may start it."""
    (checkout / "services" / "brand_new").mkdir()
    for name in ("__init__.py", "app.py"):
        (checkout / "services" / "brand_new" / name).touch()
    with (checkout / "services" / "cli" / "run.py").open("a") as source:
        source.write("\nimport services.brand_new.app\n")
    assert broken(checkout) == set()
    with (checkout / file).open("a") as source:
        source.write(f"\n{line}\n")
    found = broken(checkout)
    assert SERVICES in found
    assert found <= {SERVICES, CIRCLES}
