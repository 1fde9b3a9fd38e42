"""The wheel, built from this checkout and installed where nothing of the checkout is seen."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.unit.parser.test_kernel import GOOD, envelope, vnet

ROOT = Path(__file__).parents[2]
SECONDS = 300


@dataclass(frozen=True)
class _Installed:
    """An environment with the wheel, which sees the locked packages but not the checkout; `directory` is empty."""

    scripts: Path
    wheel: Path
    directory: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program of the environment in the empty directory."""
        program, *arguments = words
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BLOBTIDE_"))}
        argv = (str(self.scripts / program), *arguments)
        return subprocess.run(argv, cwd=self.directory, env=environ, capture_output=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> _Installed:
    """Build the wheel without a network and without an environment of its own, and install it without dependencies."""
    place = tmp_path_factory.mktemp("wheel")
    _do(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place))
    (wheel,) = place.glob("*.whl")
    venv.create(place / "env", with_pip=False)
    python = place / "env" / "bin" / "python"
    _do(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    # A directory named in a .pth file is searched, but its own .pth files, of which one leads to the checkout, are not read.
    (site,) = (place / "env").glob("lib/python*/site-packages")
    (site / "locked.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    directory = place / "empty"
    directory.mkdir()
    return _Installed(python.parent, wheel, directory)


def _do(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_product_and_nothing_else(installed: _Installed) -> None:
    """Every module and every file that modules read is in it; tests, caches and what local servers left behind are not."""
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for part in ("libs", "services") for path in (ROOT / part).rglob("*.py")}
    schemas = {str(path.relative_to(ROOT)) for path in (ROOT / "libs").rglob("*.avsc")}
    assert modules | schemas <= names
    assert {"services/cli/deploy/topics.yaml", "libs/py.typed"} <= names
    strangers = {
        name for name in names if "node_modules" in name or "__pycache__" in name or name.startswith(("tests", "benchm"))
    }
    assert strangers == set()
    assert installed.wheel.stat().st_size < 2_000_000


def test_the_installed_program_is_not_the_checkout(installed: _Installed) -> None:
    """What the other tests here run is the wheel's."""
    found = installed.run("python", "-c", "import services, libs; print(*services.__path__, *libs.__path__)")
    paths = [Path(path) for path in found.stdout.decode().split()]
    assert len(paths) == 2
    assert all(path.is_relative_to(installed.scripts.parent) for path in paths)


def test_convert_of_the_wheel_gives_the_rows_of_the_checkout(installed: _Installed) -> None:
    """A flow-log file becomes the same bytes, in every text format."""
    sample = installed.directory / "PT1H.json"
    sample.write_bytes(envelope(vnet(GOOD, GOOD), vnet(GOOD)))
    for form in ("ndjson", "csv", "table"):
        ours = subprocess.run(
            (sys.executable, "-m", "services.cli.main", "convert", str(sample), "--format", form),
            cwd=ROOT,
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
        done = installed.run("blobtide", "convert", str(sample), "--format", form)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ours.stdout
        assert done.stdout.count(b"192.0.2.180") == 3
        assert b"rows 3" in done.stderr


def test_sinks_of_the_wheel_are_all_kinds(installed: _Installed) -> None:
    """Kinds are found by being in the package, and their libraries by being installed."""
    done = installed.run("blobtide", "sinks")
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0] for line in done.stdout.decode().splitlines()[1:]}
    kinds = ROOT / "services" / "sinks" / "kinds"
    assert listed == {path.stem for path in kinds.iterdir() if not path.name.startswith("__")}


def test_the_wheel_brings_its_declaration_of_topics(installed: _Installed) -> None:
    """`topics apply` needs no checkout: the declaration is the one of the repository."""
    code = "from libs.common.kafka.topics.topic_specs import load_topic_specs; print(len(load_topic_specs(None, None)))"
    done = installed.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(yaml.safe_load((ROOT / "deploy" / "topics.yaml").read_text())["topics"])
