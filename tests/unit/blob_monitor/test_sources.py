"""What the configuration says to follow."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import Stream
from libs.common.settings import Settings
from libs.common.settings.monitor import MonitorSettings
from libs.common.settings.storage import Environment, Source, StorageAccount, Subscription
from services.blob_monitor.main import build, places
from services.blob_monitor.sources import Atlas, Territory, territories

ACCOUNT = StorageAccount(account_name="account", account_key=SecretStr("a2V5"))


def of(*sources: dict[str, Any], **environment: Any) -> tuple[Territory, ...]:
    """Return the territories of one environment."""
    made = Environment(storage=ACCOUNT, sources=tuple(Source(**source) for source in sources), **environment)
    return territories({"sub": Subscription(environments={"dev": made})})


def test_sources_with_one_prefix_share_a_listing_and_the_first_that_accepts_a_name_wins() -> None:
    """Selectors split one prefix into streams; what none accepts is left alone."""
    (territory,) = of(
        {"container": "logs", "prefix": "k/", "layout": "dated", "stream": "proxy_logs", "include": ["k/*.{apache2,nginx}-*"]},
        {"container": "logs", "prefix": "k/", "layout": "dated", "stream": "application_logs", "exclude": ["**/*.tmp"]},
    )
    streams = [territory.stream_of(name) for name in ("k/20260501.nginx-1.gz", "k/20260501.api-1.gz", "k/x.tmp")]
    assert streams == [Stream.PROXY_LOGS, Stream.APPLICATION_LOGS, None]


@pytest.mark.parametrize(
    ("layout", "prefix", "name", "scope"),
    [
        ("hourly", "", "x=/R/y=2026/m=05/d=01/h=00/m=00/PT1H.json", "x=/R/"),
        ("hourly", "x=/", "x=/R/y=2026/m=05/d=01/h=00/m=00/PT1H.json", "x=/R/"),
        ("hourly", "", "y=2026/m=05/PT1H.json", ""),
        ("hourly", "", "readme.txt", None),
        ("hourly", "z=/", "x=/R/y=2026/PT1H.json", None),
        ("flat", "x=/", "x=/R/y=2026/PT1H.json", "x=/"),
        ("dated", "k/", "k/20260501.api", "k/"),
    ],
)
def test_a_blob_falls_into_the_scope_above_its_year_or_its_configured_prefix(
    layout: str, prefix: str, name: str, scope: str | None
) -> None:
    """The scope follows from the name alone, so that every monitor finds the same one."""
    atlas = Atlas(of({"container": "logs", "prefix": prefix, "layout": layout}))
    found = atlas.find(str(BlobId("sub.dev", "logs", name)))
    assert (None if found is None else found[0].prefix) == scope
    assert found is None or (found[1] == name and found[0].holds(name) and found[0] == atlas.find(f"sub.dev/logs/{name}")[0])  # type: ignore[index]
    assert atlas.find(str(BlobId("sub.dev", "other", name))) is None


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ([{"container": "logs", "prefix": "x/"}, {"container": "logs", "prefix": "x/y/"}], "lies inside"),
        ([{"container": "logs", "layout": "flat"}, {"container": "logs", "layout": "hourly"}], "have different layouts"),
        ([{"container": "logs", "prefix": "x/y=2026/"}], "extends into the hours"),
        ([{"container": "logs", "include": ["{x"]}], "unmatched opening brace"),
    ],
)
def test_sources_that_cannot_work_are_refused(sources: list[dict[str, Any]], says: str) -> None:
    """Overlapping prefixes, mixed layouts, prefixes within hours and broken globs are named."""
    with pytest.raises(ConfigError, match=says):
        of(*sources)


def test_a_disabled_environment_is_not_followed() -> None:
    """Its sources stay in the settings and are neither listed nor opened."""
    assert of({"container": "logs"}, enabled=False) == ()
    subscriptions = {
        "sub": Subscription(
            environments={
                "dev": Environment(storage=ACCOUNT, sources=(Source(container="logs"),)),
                "off": Environment(storage=ACCOUNT, sources=(Source(container="logs"),), enabled=False),
            }
        )
    }
    assert [territory.alias for territory in territories(subscriptions)] == ["sub.dev"]
    assert [place.alias for place in places(Settings(subscriptions=subscriptions))] == ["sub.dev"]


def test_every_environment_has_its_own_storage_containers_and_interval() -> None:
    """Several subscriptions and environments are followed side by side; an interval of its own wins over the monitor's."""
    quick = Environment(storage=ACCOUNT, sources=(Source(container="logs"), Source(container="more")), interval_seconds=5)
    usual = Environment(storage=ACCOUNT, sources=(Source(container="logs"),))
    subscriptions = {
        "a": Subscription(environments={"dev": quick, "ops": usual}),
        "b": Subscription(environments={"dev": usual}),
    }
    found = places(Settings(subscriptions=subscriptions, monitor=MonitorSettings(interval_seconds=70)))
    assert [(place.alias, place.interval, sorted(place.containers)) for place in found] == [
        ("a.dev", 5, ["logs", "more"]),
        ("a.ops", 70, ["logs"]),
        ("b.dev", 70, ["logs"]),
    ]


def test_building_the_service_checks_the_configuration_without_any_request() -> None:
    """Unusable credentials are found before anything is connected; no subscriptions are no error."""
    build(Settings())
    account = StorageAccount(connection_string=SecretStr("nonsense"))
    broken = Environment(storage=account, sources=(Source(container="logs"),))
    subscriptions = {"sub": Subscription(environments={"dev": broken})}
    with pytest.raises(ConfigError, match=r"sub\.dev"):
        build(Settings(subscriptions=subscriptions))
    build(Settings(subscriptions={"sub": Subscription(environments={"dev": broken.model_copy(update={"storage": ACCOUNT})})}))
