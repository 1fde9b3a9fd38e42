"""What the collector and the recorder of `blobtide up --demo --mock` ask: a server, and the settings that lead to it."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from libs.common.settings import Settings
from libs.common.settings.collector import CollectorSettings
from libs.common.settings.recorder import HttpSourceSettings, RecorderSettings, SourcePreset
from libs.demo import mock
from libs.demo.arm.resources import EstateInventory
from libs.demo.arm.server import IDENTITY_HEADER, IDENTITY_PATH
from libs.demo.spec import EstateSpec
from libs.local.ports import LOOPBACK, accepts, free_port
from libs.local.process import Launch, LocalServer

_EVERY_MINUTES: Final = 0.5
_SCHEDULES: Final = {
    "network": ("vnets", "nsgs", "nics", "public-ips", "load-balancers", "private-endpoints"),
    "compute": ("vms", "aks"),
    "platform": ("storage", "sql-servers", "key-vaults", "role-assignments"),
}
_POLL_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class MockApi:
    """The collector's API, on this machine."""

    port: int
    token: str

    @classmethod
    def new(cls, port: int | None = None) -> Self:
        """Return one with a token of its own, and any free port if none is given."""
        return cls(port or free_port(), secrets.token_hex(16))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{LOOPBACK}:{self.port}"


@dataclass(frozen=True, slots=True)
class MockPlace:
    """Where the server is, the subscriptions that it has, and the API of the collector that asks it."""

    url: str
    subscriptions: tuple[str, ...]
    api: MockApi


class LocalMock(LocalServer):
    """The server. What it shows follows from the flow logs of `nics` interfaces, and from the time."""

    name = "mock"

    def __init__(self, data_dir: Path, port: int | None, nics: int) -> None:
        super().__init__(data_dir, port)
        self._nics = nics

    @classmethod
    def install(cls) -> None:
        """Do nothing: it is a part of blobtide."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{LOOPBACK}:{self.port}"

    def place(self, api: MockApi) -> MockPlace:
        """Where it is, for a collector with this API."""
        return MockPlace(self.url, EstateInventory(EstateSpec(nics=self._nics)).subscriptions, api)

    def _launch(self) -> Launch:
        argv = (sys.executable, "-m", mock.__name__, "--port", str(self.port), "--nics", str(self._nics))
        return Launch(argv, ready=lambda: accepts(self.port))


def mocked(settings: Settings, place: MockPlace) -> dict[str, Any]:
    """Return the groups of settings that make the collector and the recorder ask the server at `place`.

    The collector asks nobody else. The recorder also asks the sources in `settings`; of two with one name it asks theirs.
    """
    schedules = [
        {"name": name, "templates": templates, "subscriptions": place.subscriptions, "every_minutes": _EVERY_MINUTES}
        for name, templates in _SCHEDULES.items()
    ]
    sources = [
        HttpSourceSettings.model_validate({"preset": preset, "url": place.url, "interval_seconds": _POLL_SECONDS})
        for preset in SourcePreset
    ]
    recorder, names = settings.recorder, {source.name for source in settings.recorder.sources}
    added = tuple(source for source in sources if source.name not in names)
    api = {"port": place.api.port, "token": place.api.token}
    collector = {"management_url": place.url, "schedules": schedules, "api": api}
    return {
        "collector": CollectorSettings.model_validate(collector),
        "recorder": RecorderSettings.model_validate({**dict(recorder), "sources": (*recorder.sources, *added)}),
    }


def mock_identity(place: MockPlace) -> dict[str, str]:
    """Return the variables with which a process signs in there, as a managed identity; no proxy stands between them."""
    identity = {"IDENTITY_ENDPOINT": f"{place.url}{IDENTITY_PATH}", "IDENTITY_HEADER": IDENTITY_HEADER}
    return {**identity, "NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK}
