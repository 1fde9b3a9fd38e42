# ruff: noqa: INP001 - deploy/ holds files for deployment and is no package
"""Base images without an image registry: Debian by debootstrap, Node.js and Java as wheels, Kafka from its jars.

They stand in for the images that compose.yaml and the Dockerfiles name by default; what they need, package registries have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from libs.local.java import find_java
from libs.local.kafka import JAVA_MINIMUM
from libs.local.maven import jars

ROOT: Final = Path(__file__).resolve().parents[3]
HERE: Final = ROOT / "deploy" / "compose" / "offline"
SUITE: Final = "bookworm"  # the oldest with a supported Python
PYTHON: Final = "blobtide-offline/python"
NODE: Final = "blobtide-offline/node"
KAFKA: Final = "blobtide-offline/kafka"
# Keyed by variables of compose.yaml.
IMAGES: Final = {"PYTHON_IMAGE": PYTHON, "NODE_IMAGE": NODE, "KAFKA_IMAGE": KAFKA}

_CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
_UNNEEDED = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*")


_LINES_SHOWN = 15


class BasesMissing(Exception):
    """Base images cannot be made here; says what to install."""


class StepFailed(Exception):
    """A command failed; shows the end of what it said."""


def make_bases() -> dict[str, str]:
    """Make the images that are not there yet, and return the variables that choose them.

    Raises:
        BasesMissing: a program or right is missing.
        ServerMissing: so is what Kafka's jars are fetched with.
        StepFailed: a step failed.
    """
    if not _exists(PYTHON):
        _make_python()
    _make_others()
    return dict(IMAGES)


def _exists(image: str) -> bool:
    return subprocess.run(("docker", "image", "inspect", image), capture_output=True, check=False).returncode == 0


def _make_python() -> None:
    if shutil.which("debootstrap") is None:
        raise BasesMissing("debootstrap is needed to make base images: install it (Debian: debootstrap)")
    if os.geteuid() != 0:
        raise BasesMissing("debootstrap needs root: run this once as root; the images remain")
    with tempfile.TemporaryDirectory(prefix="blobtide-base-") as work:
        root = Path(work) / "root"
        packages = "--include=python3,python3-venv,ca-certificates"
        _run(("debootstrap", "--variant=minbase", packages, SUITE, str(root)))
        _trust_as_here(root)
        _import(root)


def _trust_as_here(root: Path) -> None:
    """Let the image trust whom this machine trusts: a network may have a certificate authority of its own."""
    if (bundle := Path("/") / _CERTIFICATES).exists():
        shutil.copyfile(bundle, root / _CERTIFICATES)
    (root / "etc" / "pip.conf").write_text(f"[global]\ncert = /{_CERTIFICATES}\n", encoding="utf-8")


def _import(root: Path) -> None:
    pack = ("tar", "--create", "--directory", str(root), *(f"--exclude={name}" for name in _UNNEEDED), ".")
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as tar:
        _run(("docker", "import", "-", PYTHON), stdin=tar.stdout)
    if tar.returncode:
        raise StepFailed(f"packing {root} with tar ended with exit code {tar.returncode}")


def _make_others() -> None:
    """Build Node.js and Kafka; Docker's cache tells what is there already."""
    find_java(JAVA_MINIMUM)
    with tempfile.TemporaryDirectory(prefix="blobtide-base-") as work:
        context = Path(work)
        for file in (ROOT / "requirements-dev.lock", HERE / "Dockerfile", HERE / "start-kafka"):
            shutil.copy(file, context)
        shutil.copytree(jars("kafka"), context / "jars")
        (context / "jars").chmod(0o755)  # the cache is for one user
        for target, image in (("node", NODE), ("kafka", KAFKA)):
            build = ("docker", "build", "--quiet", "--target", target, "--tag", image, "--build-arg", f"BASE={PYTHON}", work)
            _run(build)


def _run(command: Sequence[str], stdin: IO[bytes] | None = None) -> None:
    # The classic builder: the new one queries a registry about BASE, although it is local.
    environ = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(command, stdin=stdin, env=environ, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-_LINES_SHOWN:]
        raise StepFailed("\n  ".join([f"{' '.join(command[:3])} ended with exit code {done.returncode}:", *said]))
