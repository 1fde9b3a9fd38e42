"""Sources that follow services, in the settings."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.settings.plain import plain
from libs.common.settings.problems import describe_problems
from libs.common.settings.selectors import PRESETS
from libs.common.settings.storage import NameLayout, Source

PODS = r"k/\d{8}-(?P<pod>[^/]+)"


def source(**values: Any) -> Source:
    """Return a source of one container."""
    return Source(container="logs", **values)


def test_the_kubernetes_layout_needs_nothing_else() -> None:
    """Names begin with a date behind kubernetes/, have four parts, and hold application logs; all of it can be changed."""
    usual = source(layout="kubernetes")
    assert (usual.times, usual.prefix, usual.stream.value) == (NameLayout.DATED, "kubernetes/", "application_logs")
    assert usual.names is not None
    assert usual.names.groups == ("pod", "namespace", "container", "container_id")
    other = source(layout="kubernetes", prefix="k/", stream="proxy_logs", name_pattern=PODS)
    assert (other.prefix, other.stream.value) == ("k/", "proxy_logs")
    assert other.names is not None
    assert other.names.groups == ("pod",)
    assert source().names is None


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_known_by_its_name(name: str) -> None:
    """Its prefix part and its conditions are there; proxies go to the stream of proxies."""
    (found,) = source(layout="kubernetes", selectors=[name]).selectors
    assert (found.name, found.prefix[0]) == (name, ".")
    assert found.conditions()["container"] != ((), ())
    assert (found.stream is None) == ("proxy" not in name)


def test_a_selector_with_the_name_of_a_preset_changes_it_and_any_other_is_its_own() -> None:
    """What is given replaces what the preset says; a single glob needs no list."""
    api, mine = source(
        layout="kubernetes", selectors=[{"name": "api", "namespace": "shop"}, {"name": "mine", "not_pod": ["a-*", "b-*"]}]
    ).selectors
    assert (api.prefix, api.conditions()) == (".api-", {"namespace": (("shop",), ()), "container": (("platform",), ())})
    assert (mine.prefix, mine.conditions()) == ("", {"pod": ((), ("a-*", "b-*"))})


def test_a_source_with_selectors_reads_the_same_from_its_plain_form() -> None:
    """What `blobtide up` passes on to its services is what was configured."""
    known = source(
        layout="kubernetes", stream="proxy_logs", selectors=["api", {"name": "x", "pod": "y", "stream": "flow_logs"}]
    )
    assert Source(**plain(known)) == known


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"selectors": ["apii"]}, r"selectors\.0: unknown selector 'apii'; did you mean api\?; .*zookeeper"),
        ({"selectors": [{"name": "x", "namspace": "y"}]}, r"selectors\.0\.namspace: unknown setting; did you mean namespace\?"),
        ({"selectors": [{"prefix": ".x"}]}, r"selectors\.0\.name: missing"),
        ({"selectors": "api"}, r"selectors: give a list, such as \[a, b\]"),
        ({"selectors": [["api"]]}, r"selectors\.0: give settings below it"),
        ({"selectors": ["api", "api"]}, "two selectors are named api"),
        ({"selectors": [{"name": "x", "prefix": "7"}]}, "selector x: .* cannot begin with a digit"),
        ({"selectors": ["api"], "layout": "hourly"}, "selectors need a layout with the date at the beginning"),
        ({"selectors": ["api"], "layout": "dated"}, "selector api has a condition on container: set layout: kubernetes"),
        ({"selectors": ["api"], "name_pattern": PODS}, r"api has a condition on container: .*\(\?P<container>\.\.\.\)"),
        ({"name_pattern": "(?P<pod>"}, "name_pattern: not a regular expression in the syntax of RE2: missing"),
        ({"name_pattern": r"(?P<pod>.)\1"}, "name_pattern: not a regular expression .* invalid escape sequence"),
        ({"name_pattern": "(.*)"}, "name_pattern: it has no named group"),
        ({"name_pattern": "(?P<a>.)(?P<a>.)"}, "name_pattern: group 'a' occurs twice"),
        ({"name_pattern": "(?P<Pod>.)"}, "name_pattern: group 'Pod': use lower-case letters"),
        ({"name_pattern": "".join(f"(?P<a{n}>.)" for n in range(9))}, "name_pattern: it has 9 named groups; at most 8"),
        ({"name_pattern": "(?P<environment>.)"}, "name_pattern: environment is a label already"),
        ({"name_pattern": "(?P<service>.)", "selectors": [{"name": "x"}]}, "name_pattern: service is a label already"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(values: dict[str, Any], says: str) -> None:
    """Unknown names, conditions without parts, patterns that are none, and names that say nothing are told as what they are."""
    with pytest.raises(ValidationError) as caught:
        source(**{"layout": "kubernetes", **values})
    assert re.search(says, describe_problems(caught.value, Source))
