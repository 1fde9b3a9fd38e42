"""Selectors: which blobs of which service are found, by which listings, and what is said about them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from libs.common.errors import ConfigError
from libs.common.messages.events import BlobClosed, BlobObserved, BlobsListed, Stream
from libs.common.messages.labels import MOST_LABEL_BYTES, pack_labels
from libs.common.settings.monitor import DateRange
from libs.common.settings.storage import Source, SourceLayout
from services.blob_monitor.sources import Atlas, Territory
from tests.event_grid import written
from tests.monitor_world import START, FakeQueue, World, aged, two_monitors
from tests.unit.blob_monitor.test_sources import of

ID = "0123456789abcdef" * 4
DAY = timedelta(days=1)


def name(pod: str, namespace: str = "default", container: str = "platform", day: str = "20260501") -> str:
    """Return the name of a blob of a container."""
    return f"kubernetes/{day}.{pod}_{namespace}_{container}-{ID}.gz"


API, PROXY, NAT = name("api-7f-x2"), name("apache2-igc-6b-q1", container="proxy"), name("apache2-igc-nat-1", container="proxy")
OTHER = name("solr-0", container="solr")


def world(*selectors: Any, **source: Any) -> World:
    """Return a world with a source of these selectors."""
    return World(layout="kubernetes", selectors=selectors, **source)


def select(place: World, *selectors: Any) -> None:
    """Change the selectors for the monitors to come."""
    place._source = Source(container="logs", layout=SourceLayout.KUBERNETES, selectors=selectors)


def territories_of(**source: Any) -> tuple[Territory, ...]:
    """Return the territories of one such source."""
    return of({"container": "logs", "layout": "kubernetes", **source})


def by_selector(*sources: dict[str, Any]) -> dict[str, Territory]:
    """Return territories by the names of their selectors."""
    return {territory.selector: territory for territory in of(*({"container": "logs", **source} for source in sources))}


def test_a_service_is_announced_with_its_stream_and_its_labels() -> None:
    """Proxies go their own way; what no selector wants is not announced; events and states say service, pod and the rest."""
    place = world("apache-proxy", "api")
    for blob in (API, PROXY, NAT, OTHER):
        place.storage.write(blob, 10)
    monitor = place.monitor(closing_timeout_minutes=1)
    monitor.round()
    monitor.round(120)
    found = {event.blob.split("/", 2)[2]: event for event in place.broker.events(BlobObserved)}
    assert {blob: event.stream for blob, event in found.items()} == {API: Stream.APPLICATION_LOGS, PROXY: Stream.PROXY_LOGS}
    labels = {
        "service": "api",
        "subscription": "sub",
        "environment": "dev",
        "pod": "api-7f-x2",
        "namespace": "default",
        "container": "platform",
        "container_id": ID,
    }
    assert (found[API].labels, list(found[API].labels)) == (labels, list(labels))
    closed = {event.blob.split("/", 2)[2]: event for event in place.broker.events(BlobClosed)}
    assert {blob: (event.stream, event.labels["service"]) for blob, event in closed.items()} == {
        API: (Stream.APPLICATION_LOGS, "api"),
        PROXY: (Stream.PROXY_LOGS, "apache-proxy"),
    }
    states = {state.blob.split("/", 2)[2]: state.labels for state in place.broker.states().values()}
    assert states == {blob: event.labels for blob, event in found.items()}


def test_a_deleted_blob_is_closed_with_its_labels() -> None:
    """Nothing but its name is left of it, and the name says them."""
    place = world("api")
    place.storage.write(API, 10)
    monitor = place.monitor(closing_timeout_minutes=10_000, reconcile_seconds=60)
    monitor.round()
    del place.storage.blobs[API]
    monitor.round(16 * 60)
    (closed,) = place.broker.events(BlobClosed)
    assert (closed.stream, closed.labels["pod"]) == (Stream.APPLICATION_LOGS, "api-7f-x2")


def test_every_selector_is_listed_by_its_own_prefix_of_a_day() -> None:
    """No request covers what no selector wants; yesterday is listed while it overlaps; the days with blobs are found first."""
    place = world("apache-proxy", "api")
    for blob in (
        API,
        OTHER,
        name("api-0", day="20260315"),
        "kubernetes/20260316.x",
        "kubernetes/readme.txt",
        "kubernetes/1.gz",
    ):
        place.storage.write(blob, 10)
    monitor = place.monitor()
    monitor.round()
    assert set(place.storage.searched) == {"kubernetes/"}
    days = ("20260315", "20260316", "20260501")
    assert set(place.storage.listed) == {f"kubernetes/{day}{tail}" for day in days for tail in (".api-", ".apache2-igc-")}
    assert {event.blob.split("/", 2)[2] for event in place.broker.events(BlobObserved)} == {API, name("api-0", day="20260315")}
    place.storage.listed.clear()
    monitor.round()
    assert sorted(place.storage.listed) == [
        "kubernetes/20260315.api-",
        "kubernetes/20260501.apache2-igc-",
        "kubernetes/20260501.api-",
    ]
    place.time.advance((START.replace(hour=0, minute=20) + DAY - place.time.now).total_seconds())
    place.storage.listed.clear()
    monitor.round()
    assert {"kubernetes/20260501.api-", "kubernetes/20260502.api-"} <= set(place.storage.listed)


def test_a_date_range_bounds_what_a_selector_lists() -> None:
    """With days back, no other day is searched for."""
    place = world("api")
    for day in ("20260401", "20260429", "20260430", "20260501"):
        place.storage.write(name("api-0", day=day), 10)
    place.monitor(date_range=DateRange(days_back=1)).round()
    assert place.storage.searched == []
    assert set(place.storage.listed) == {"kubernetes/20260430.api-", "kubernetes/20260501.api-"}
    assert len(place.broker.events(BlobObserved)) == 2


def test_listings_are_reported_by_selector_and_day() -> None:
    """Each report names both, counts what the selector takes, and comes again for every day when it is time."""
    place = world("apache-proxy", {"name": "rest", "prefix": "."})
    for blob in (PROXY, API, OTHER):
        place.storage.write(blob, 10)
    place.storage.write(name("api-0", day="20260430"), 10)
    monitor = place.monitor(reconcile_seconds=3600)

    def reports() -> set[tuple[str, str, date | None, int, int]]:
        found = place.broker.events(BlobsListed)
        place.broker.log.clear()
        return {(e.selector, e.prefix, e.day, e.blob_count, e.total_bytes) for e in found}

    monitor.round()
    first, second = date(2026, 4, 30), date(2026, 5, 1)
    everything = {
        ("apache-proxy", "kubernetes/20260430.apache2-igc-", first, 0, 0),
        ("apache-proxy", "kubernetes/20260501.apache2-igc-", second, 1, 10),
        ("rest", "kubernetes/20260430.", first, 1, 10),
        ("rest", "kubernetes/20260501.", second, 2, 20),
    }
    assert reports() == everything
    monitor.round()
    assert reports() == set()
    monitor.round(3601)
    assert reports() >= everything


def test_the_first_selector_that_takes_a_name_wins() -> None:
    """A name is listed by both, announced by one, and the other one's listing does not count it."""
    place = world({"name": "v2", "prefix": ".api-v2-"}, "api", {"name": "late", "prefix": ".api-v2-", "pod": "*"})
    both, one = name("api-v2-0"), name("api-v1-0")
    for blob in (both, one):
        place.storage.write(blob, 10)
    place.monitor().round()
    found = {event.blob.split("/", 2)[2]: event.labels["service"] for event in place.broker.events(BlobObserved)}
    assert found == {both: "v2", one: "api"}
    counts = {(event.selector, event.blob_count) for event in place.broker.events(BlobsListed)}
    assert counts == {("v2", 1), ("api", 1), ("late", 0)}


def test_selectors_are_divided_between_monitors() -> None:
    """Each is one monitor's work, and everything is said once."""
    names = [f"s{number}" for number in range(12)]
    place = world(*({"name": each, "prefix": f".{each}-"} for each in names))
    for each in names:
        place.storage.write(name(f"{each}-0"), 10)
    two_monitors(place)
    said = place.broker.said()
    assert sorted(blob for _, blob in said) == sorted(name(f"{each}-0") for each in names)
    territory = place.places()[0].territories
    owners = {place.monitor().monitor._partition_of(each.key).partition for each in territory}
    assert len(owners) > 1


def test_what_one_selector_knows_is_not_forgotten_by_another() -> None:
    """After a restart with other selectors, a blob that is another's now is known, and nothing is said twice."""
    place = world("api", "zookeeper")
    place.storage.write(API, 10)
    place.monitor().round()
    select(place, "zookeeper", {"name": "all", "prefix": "."})
    place.monitor().round()
    assert place.broker.said() == [("BlobObserved", API)]
    place.storage.write(API, 20)
    place.monitor().round()
    assert [event.labels["service"] for event in place.broker.events(BlobObserved)] == ["api", "all"]


def test_start_fresh_is_a_matter_of_each_selector() -> None:
    """A selector that is added later begins with what comes after it was added, like the first ones."""
    place = world("api")
    for blob in (API, PROXY):
        place.storage.write(blob, 10)
        aged(place.storage, blob, DAY)
    place.monitor(start_policy="start_fresh").round()
    select(place, "api", "apache-proxy")
    monitor = place.monitor(start_policy="start_fresh")
    monitor.round()
    assert place.broker.said() == []
    for blob in (API, PROXY):
        place.storage.write(blob, 30)
    monitor.round()
    assert [event.baseline_offset for event in place.broker.events(BlobObserved)] == [10, 10]


def test_memory_of_a_selector_is_that_of_a_layout_with_days() -> None:
    """Once a day is over, what is known of its closed blobs is left to the topic, and found there by the next full listing."""
    place = world("api", "zookeeper")
    for number in range(20):
        place.storage.write(name(f"api-{number}"), 10)
    monitor = place.monitor(closing_timeout_minutes=1, reconcile_seconds=10_000)
    monitor.round()
    monitor.round(120)
    assert monitor.monitor._memory.counts() == (20, 0)
    place.time.advance(2 * 24 * 3600)
    monitor.round()
    assert monitor.monitor._memory.counts() == (0, 0)
    assert len(place.broker.said()) == 40


def test_an_event_about_a_blob_leads_to_its_selector() -> None:
    """Where a queue says what was written, only blobs that a selector takes are looked at."""
    place = world("api", "zookeeper")
    place.queue = FakeQueue(place.time)
    monitor = place.monitor(events={"poll_seconds": 20, "listing_seconds": 100_000}, reconcile_seconds=100_000)
    monitor.round()
    monitor.round()
    for blob in (API, OTHER):
        place.storage.write(blob, 10)
        place.queue.put(written(blob))
    monitor.round()
    monitor.round()
    assert (place.storage.asked, place.queue.messages) == ([API], {})
    (event,) = place.broker.events(BlobObserved)
    assert event.labels["pod"] == "api-7f-x2"


@pytest.mark.parametrize(
    ("blob", "wins"),
    [
        (API, "api"),
        (name("api-1", container="sidecar"), None),
        (name("backoffice-1"), "backoffice"),
        (name("backgroundprocessing-1"), "background-processing"),
        (PROXY, "apache-proxy"),
        (NAT, None),
        (name("apache2-igc-1", container="proxy", namespace="kube-system"), None),
        (name("jsapps-1", container="jsapps"), "jsapps"),
        (name("imageprocessing-1", container="imageprocessing"), "imageprocessing"),
        (name("zookeeper-0", container="zookeeper", namespace="any"), "zookeeper"),
        (name("zookeeper-0", container="zookeeper", day="2026050"), None),
        (name("api-7f-x2").replace("kubernetes/", "other/"), None),
        ("kubernetes/20260501.api-without-its-parts.gz", None),
        (OTHER, None),
    ],
)
def test_the_presets_take_the_blobs_of_their_services(blob: str, wins: str | None) -> None:
    """Each name belongs to one of them or to none."""
    presets = ["apache-proxy", "api", "backoffice", "background-processing", "jsapps", "imageprocessing", "zookeeper"]
    found = Atlas(territories_of(selectors=presets)).find(f"sub.dev/logs/{blob}")
    assert (found[0].territory.selector if found else None) == wins


def test_selectors_take_only_what_their_source_includes() -> None:
    """Globs of the source are about whole names; a name without parts meets no condition, not even a negative one."""
    found = by_selector(
        {
            "layout": "kubernetes",
            "exclude": ["**/*.api-old-*"],
            "selectors": ["api", {"name": "x", "prefix": ".x", "not_pod": "x-1*"}],
        }
    )
    assert [found["api"].rule_of(name(pod)) is not None for pod in ("api-1", "api-old-1")] == [True, False]
    names = [name("x-2"), name("x-1"), "kubernetes/20260501.x"]
    assert [found["x"].rule_of(each) is not None for each in names] == [True, False, False]


def test_other_layouts_have_selectors_and_parts_too() -> None:
    """Without a date the prefix part follows the prefix at once; a group that took no part is no label."""
    place = World(
        layout="flat",
        prefix="apps/",
        name_pattern=r"apps/(?P<app>[a-z]+)-(?:(?P<region>[a-z]+)-)?\d+\.log",
        selectors=[{"name": "shop", "prefix": "shop-"}],
    )
    for blob in ("apps/shop-eu-1.log", "apps/shop-1.log", "apps/shop-x", "apps/mail-1.log"):
        place.storage.write(blob, 10)
    place.monitor().round()
    assert set(place.storage.listed) == {"apps/shop-"}
    known = {"service": "shop", "subscription": "sub", "environment": "dev"}
    assert {event.blob.split("/", 2)[2]: event.labels for event in place.broker.events(BlobObserved)} == {
        "apps/shop-eu-1.log": {**known, "app": "shop", "region": "eu"},
        "apps/shop-1.log": {**known, "app": "shop"},
        "apps/shop-x": known,
    }
    assert {(event.selector, event.day) for event in place.broker.events(BlobsListed)} == {("shop", None)}


def test_a_pattern_without_selectors_gives_labels_and_no_pattern_gives_none() -> None:
    """A part may be the service; flow logs are announced as ever."""
    place = World(layout="flat", name_pattern=r"(?P<service>[a-z]+)\.log")
    place.storage.write("shop.log", 10)
    place.monitor().round()
    (event,) = place.broker.events(BlobObserved)
    assert event.labels == {"subscription": "sub", "environment": "dev", "service": "shop"}
    plain = World(layout="flat")
    plain.storage.write("shop.log", 10)
    plain.monitor().round()
    assert [event.labels for event in plain.broker.events(BlobObserved)] == [{}]


def test_labels_never_fill_a_message() -> None:
    """The longest names with the most parts are announced without these; what the configuration says stays."""
    groups = "".join(f"(?P<g{number}>" for number in range(8)) + ".*" + ")" * 8
    (territory,) = of({"container": "logs", "layout": "flat", "name_pattern": groups})
    rule = territory.rules[0]
    for blob in ("é" * 1024, '"' * 1024, "a" * 100):
        labels = rule.labels(blob, territory.place)
        assert len(pack_labels(labels)) <= MOST_LABEL_BYTES
        assert (labels == territory.place) == (len(blob) > 100)


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ([{"selectors": ["api"]}, {}], "give all selectors or none"),
        (
            [{"selectors": ["api"]}, {"selectors": ["zookeeper", "api"]}],
            "two selectors with prefix 'kubernetes/' are named api",
        ),
        ([{"selectors": [{"name": "x", "pod": "{a"}]}], "unmatched opening brace"),
        ([{"selectors": ["api"]}, {"layout": "flat", "prefix": "kubernetes/"}], "have different layouts"),
    ],
)
def test_sources_with_selectors_that_cannot_work_together_are_refused(sources: list[dict[str, Any]], says: str) -> None:
    """Each would hide what the other is about."""
    with pytest.raises(ConfigError, match=says):
        by_selector(*({"layout": "kubernetes", **source} for source in sources))


def test_sources_of_one_prefix_share_their_selectors() -> None:
    """Globs of each apply to its own; the first of all that takes a name wins."""
    found = by_selector(
        {"layout": "kubernetes", "include": ["**/*_shop_*"], "selectors": [{"name": "shop", "prefix": "."}]},
        {"layout": "kubernetes", "selectors": [{"name": "rest", "prefix": "."}]},
    )
    owners = {blob: [each for each, territory in found.items() if territory.rule_of(blob)] for blob in (API, name("a", "shop"))}
    assert owners == {API: ["rest"], name("a", "shop"): ["shop"]}
