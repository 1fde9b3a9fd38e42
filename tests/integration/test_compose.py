"""compose.yaml on a real Docker engine.

Nothing else needs Docker. CI starts an engine where it may (.ci/with-docker); where none answers these tests skip, in CI too.
tests/unit/test_compose.py holds the files against the program everywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPOSE = ("docker", "compose", "--file", str(ROOT / "deploy" / "compose.yaml"))
BASES = ("python:3.11-slim", "node:22-slim", "apache/kafka:4.2.1")
MADE_OFFLINE = "blobtide-offline/python"

pytestmark = pytest.mark.docker


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=600).returncode == 0


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    """Skip without Docker and Compose."""
    if shutil.which("docker") is None or not _succeeds("docker", "version") or not _succeeds("docker", "compose", "version"):
        pytest.skip("no Docker engine with Compose answers")


@pytest.fixture
def bases() -> list[str]:
    """Return the options for verify-compose that lead to base images here."""
    if _succeeds("docker", "image", "inspect", MADE_OFFLINE):
        return ["--offline-bases"]
    if all(_succeeds("docker", "image", "inspect", name) or _succeeds("docker", "pull", "--quiet", name) for name in BASES):
        return []
    if os.geteuid() == 0 and shutil.which("debootstrap"):
        return ["--offline-bases"]
    pytest.skip("no image registry is reached, and without debootstrap and root no base images are made")


@pytest.mark.parametrize("overlay", [(), ("--file", str(ROOT / "deploy" / "compose.secure.yaml"))], ids=["plain", "secure"])
@pytest.mark.parametrize("profile", [(), ("--profile", "demo")], ids=["own storage", "demo"])
def test_compose_accepts_the_file(profile: tuple[str, ...], overlay: tuple[str, ...]) -> None:
    """Docker Compose finds no fault with and without the demo, and with what makes it secure."""
    done = subprocess.run(
        (*COMPOSE, *overlay, *profile, "config", "--quiet"), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_compose_accepts_the_file_of_opensearch() -> None:
    """Docker Compose finds no fault with it either."""
    file = str(ROOT / "deploy" / "opensearch" / "compose.yaml")
    command = ("docker", "compose", "--file", file, "config", "--quiet")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_images_are_built(bases: list[str]) -> None:
    """The images come of what is in this checkout. The tests below find them built, and need not build them alone."""
    done = subprocess.run(
        (ROOT / "deploy" / "verify-compose", *bases, "--only-build"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "healthy" not in done.stderr, "nothing is started"


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("options", [(), ("--secure",)], ids=["plain", "secure"])
def test_the_demo_runs_as_promised(bases: list[str], options: tuple[str, ...]) -> None:
    """Built, started, healthy, confined, rows arrive once, stopped in order: all that deploy/verify-compose checks."""
    done = subprocess.run((ROOT / "deploy" / "verify-compose", *bases, *options), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
