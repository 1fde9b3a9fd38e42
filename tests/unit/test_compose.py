"""The files for Docker, without Docker: what compose.yaml and the Dockerfiles say, held against the program they run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement

from libs.common.settings import load_settings
from libs.common.settings.process import HttpSettings
from services.cli.broker.rights import rights_of
from services.cli.main import blobtide
from services.sinks.kinds.elasticsearch.cluster_setup import INDEXED, cluster_setup, default_installations

DEPLOY = Path(__file__).parents[2] / "deploy"


def merged(base: Any, over: Any) -> Any:
    """Return what Compose makes of a file and one over it: maps are merged, volumes are joined, all else is replaced."""
    if isinstance(base, list) and isinstance(over, list) and any(":" in str(entry) for entry in over):
        return [*base, *over]
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{name: merged(base.get(name), value) for name, value in over.items()}}


COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECURED: dict[str, dict[str, Any]] = merged(COMPOSE, yaml.safe_load((DEPLOY / "compose.secure.yaml").read_text()))["services"]
ONE_SHOTS = ("certificates", "access")  # of the overlay: they run a script
BOTH = {**SERVICES, **{f"{name} secured": service for name, service in SECURED.items()}}
OURS = {name: service for name, service in BOTH.items() if "BLOBTIDE_CONFIG" in service.get("environment", {})}
OURS = {name: service for name, service in OURS.items() if "entrypoint" not in service}
CLIENTS = sorted(SECURED.keys() - {"kafka", "azurite", "demo", *ONE_SHOTS})
OVERRIDABLE = re.compile(r"\$\{[A-Z]+_IMAGE:-(?P<default>[^}]+)\}")


@pytest.mark.parametrize("service", BOTH.values(), ids=BOTH)
def test_every_container_is_confined(service: dict[str, Any]) -> None:
    """Read-only root file system, no capabilities, no way to gain rights, bounded memory and processes, an end in order."""
    assert service["init"] is True
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["stop_grace_period"]
    assert not service.keys() & {"privileged", "cap_add", "pid", "ports"}
    assert service.get("network_mode", "none") == "none"


@pytest.mark.parametrize("name", sorted(SECURED.keys() - {"kafka", "certificates"}))
def test_every_image_of_ours_runs_as_a_numeric_user(name: str) -> None:
    """Neither root nor a name that only the image knows; Kafka's image brings a user of its own."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", SECURED[name]["user"])


def test_only_what_fills_new_volumes_is_root_and_reaches_nothing() -> None:
    """Volumes that are new belong to root; who fills them has no network and sees neither data nor settings."""
    certificates = SECURED["certificates"]
    assert (certificates["user"], certificates["network_mode"]) == ("0:0", "none")
    sources = [volume.split(":")[0] for volume in certificates["volumes"]]
    assert sources[0] == "./compose/secure/access.py"
    assert all(source.startswith("secrets-") for source in sources[1:])


def test_each_service_has_its_own_login_and_no_other() -> None:
    """Users, passwords and rights are those of the services that speak to Kafka; each sees the secrets of one user."""
    for one_shot in ONE_SHOTS:
        assert sorted(SECURED[one_shot]["command"][2:]) == CLIENTS
    filled = {volume.split(":")[0] for volume in SECURED["certificates"]["volumes"][1:]}
    assert filled == {f"secrets-{name}" for name in (*CLIENTS, "kafka", "access")}
    for name, service in SECURED.items():
        secrets = [volume for volume in service.get("volumes", ()) if volume.startswith("secrets-")]
        if name != "certificates":
            assert secrets == ([f"secrets-{name}:/secrets:ro"] if f"secrets-{name}" in filled else [])
    rights_of(load_settings(DEPLOY / "compose" / "config.yaml"), CLIENTS, {})


def test_nobody_speaks_to_the_secured_broker_unasked() -> None:
    """Every listener asks for a password or a certificate, every service gives one, and nothing is allowed by default."""
    kafka = SECURED["kafka"]["environment"]
    protocols = dict(one.split(":") for one in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    listeners = {one.split(":")[0] for one in kafka["KAFKA_LISTENERS"].split(",")}
    assert listeners == protocols.keys()
    for name, protocol in protocols.items():
        asks = kafka.get(f"KAFKA_LISTENER_NAME_{name}_SSL_CLIENT_AUTH") == "required"
        assert protocol == "SASL_SSL" or (protocol == "SSL" and asks)
    assert kafka["KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND"] == "false"
    for name in CLIENTS:
        assert SECURED[name]["environment"]["BLOBTIDE_KAFKA__SASL_USERNAME"] == name


def test_the_image_has_what_makes_certificates() -> None:
    """The library that the overlay's script needs is among the locked packages of the image."""
    assert re.search(r"^cryptography==", (DEPLOY.parent / "requirements.lock").read_text(), re.MULTILINE)


def test_every_image_can_be_replaced_and_names_no_registry() -> None:
    """Each image and base image is a variable whose default is a plain name."""
    images = [service["image"] for service in SECURED.values()]
    images += [image for service in SECURED.values() for image in service.get("build", {}).get("args", {}).values()]
    for image in images:
        match = OVERRIDABLE.fullmatch(image)
        assert match, image
        assert "." not in match["default"].split("/")[0].split(":")[0]


def test_opensearch_is_for_this_machine_only_and_is_set_up_by_the_program() -> None:
    """Its images can be replaced, its ports are on loopback, and the command and the settings that prepare it are valid."""
    services = yaml.safe_load((DEPLOY / "opensearch" / "compose.yaml").read_text())["services"]
    for service in services.values():
        match = OVERRIDABLE.fullmatch(service["image"])
        assert match
        assert "." not in match["default"].split("/")[0].split(":")[0]
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["mem_limit"]
    assert CliRunner().invoke(blobtide, [*services["setup"]["command"], "--help"]).exit_code == 0
    found = cluster_setup(load_settings(DEPLOY / "opensearch" / "config.yaml"))
    assert found.settings.hosts == ("http://opensearch:9200",)
    assert {one.name for one in found.installations} == {f"blobtide-{rows}" for rows in INDEXED}
    assert all(one in found.installations for one in default_installations().values())


def test_only_storage_and_its_data_belong_to_the_demo() -> None:
    """Without the demo profile everything else is there, and nothing depends on what is not."""
    demo = {name for name, service in SECURED.items() if service.get("profiles") == ["demo"]}
    assert demo == {"azurite", "demo"}
    for name in SECURED.keys() - demo:
        assert not set(SECURED[name].get("depends_on", ())) & demo


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_every_command_exists_with_its_options(service: dict[str, Any]) -> None:
    """What a container runs is understood by `blobtide`."""
    done = CliRunner().invoke(blobtide, [*service["command"], "--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_the_settings_of_the_demo_are_valid(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings file with each container's variables over it loads, and has the environment that the demo writes to."""
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BLOBTIDE_CONFIG", str(DEPLOY / "compose" / "config.yaml"))
    settings = load_settings(None)
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert str(settings.sinks["file"]["directory"]) == "/data/flows"
    assert "demo" in settings.subscriptions["demo"].environments


def test_the_image_serves_the_port_that_health_asks() -> None:
    """Service, `blobtide health` and Dockerfile mean the same port."""
    from services.cli.health import DEFAULT_PORT

    assert HttpSettings().port == DEFAULT_PORT
    assert f"EXPOSE {DEFAULT_PORT}\n" in (DEPLOY / "Dockerfile").read_text()


def test_the_wheel_is_built_by_locked_packages_only() -> None:
    """The Dockerfile takes all that hatchling needs from the lock; pip refuses the rest."""
    taken = re.search(r"wanted = /\^\(([a-z|-]+)\)==/", (DEPLOY / "Dockerfile").read_text())
    assert taken
    needed = {"hatchling"}
    for requirement in map(Requirement, requires("hatchling") or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed.add(requirement.name)
    assert set(taken[1].split("|")) == needed


DIGEST = "sha256:" + "0a" * 32
PIN = DEPLOY / "pin-images"


def _pin(tmp_path: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script, which writes beside itself, with a `docker` that knows the digest of every image."""
    (tmp_path / "opensearch").mkdir(exist_ok=True)
    for file in ("pin-images", "compose.yaml", "opensearch/compose.yaml"):
        shutil.copy(DEPLOY / file, tmp_path / file)
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n[ $1 = pull ] || echo registry/of/it@{DIGEST}\n")
    docker.chmod(0o755)
    environ |= {"PATH": str(tmp_path) + ":/bin:/usr/bin"}
    command = (sys.executable, str(tmp_path / PIN.name), *words)
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_base_images_are_pinned_by_digest_in_a_file_for_compose(tmp_path: Path) -> None:
    """The script writes what a registry says of each image of others, and tells until then which are not pinned."""
    before = _pin(tmp_path, "--check")
    assert (
        before.returncode,
        "PYTHON_IMAGE, KAFKA_IMAGE, NODE_IMAGE, OPENSEARCH_IMAGE, DASHBOARDS_IMAGE" in before.stdout,
    ) == (1, True)
    mine = f"mirror/python:3.12@sha256:{'1b' * 32}"
    assert _pin(tmp_path, PYTHON_IMAGE=mine).returncode == 0
    lines = (tmp_path / "images.env").read_text().splitlines()
    assert lines == [
        f"PYTHON_IMAGE={mine}",
        f"KAFKA_IMAGE=apache/kafka:4.2.1@{DIGEST}",
        f"NODE_IMAGE=node:22-slim@{DIGEST}",
        f"OPENSEARCH_IMAGE=opensearchproject/opensearch:3.8.0@{DIGEST}",
        f"DASHBOARDS_IMAGE=opensearchproject/opensearch-dashboards:3.8.0@{DIGEST}",
    ]
    assert _pin(tmp_path, "--check").returncode == 0
    assert _pin(tmp_path, "--check", NODE_IMAGE="node:22-slim").returncode == 1


def test_the_images_of_this_checkout_are_pinned() -> None:
    """Skipped with what to do as long as nobody has pinned them: that takes a registry."""
    done = subprocess.run((sys.executable, PIN, "--check"), capture_output=True, text=True, timeout=60, check=False)
    if not (DEPLOY / "images.env").exists():
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout


def test_verify_compose_says_what_is_missing(tmp_path: Path) -> None:
    """Without Docker it ends with 2 and one line that says what to install."""
    command = (sys.executable, DEPLOY / "verify-compose")
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert (
        done.stderr == "verify-compose: docker is not on PATH: install Docker Engine (Debian: docker.io) and Docker Compose 2\n"
    )
