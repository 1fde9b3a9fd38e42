"""Names of blobs and their parts, for any name and any text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.settings.name_pattern import NamePattern, kubernetes_names
from libs.common.settings.storage import Source, SourceLayout

LOWER = "abcdefghijklmnopqrstuvwxyz"
# What Kubernetes allows: labels of lower-case letters, digits and dashes; pods may have dots, too.
LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
PODS = st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,40}[a-z0-9])?", fullmatch=True)
IDS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
DAYS = st.dates().map(lambda day: f"{day.year:04}{day.month:02}{day.day:02}")
PREFIXES = st.text(max_size=10)
OWN = NamePattern(r"(?P<tenant>[^/]+)/(?:(?P<region>[a-z]+)/)?(?P<file>[^/]*)\.log")


@given(PREFIXES, DAYS, PODS, st.tuples(LABELS, LABELS), IDS)
def test_a_kubernetes_name_gives_its_parts_back(prefix: str, day: str, pod: str, owner: tuple[str, str], ident: str) -> None:
    """Whatever pod, namespace, container and prefix: dashes and dots in them confuse nothing."""
    namespace, container = owner
    name = f"{prefix}{day}.{pod}_{namespace}_{container}-{ident}.gz"
    parts = {"pod": pod, "namespace": namespace, "container": container, "container_id": ident}
    assert kubernetes_names(prefix).parts(name) == parts
    assert Source(container="logs", layout=SourceLayout.KUBERNETES, prefix=prefix).names.parts(name) == parts  # type: ignore[union-attr]


@given(st.text("/._-0a1f2z\n:é", max_size=60) | st.text(max_size=60))
def test_any_text_has_parts_or_none(rest: str) -> None:
    """No name raises, and parts are found only in names that have the form."""
    text = rest.encode(errors="replace").decode()
    for prefix in ("", "kubernetes/"):
        found = kubernetes_names(prefix).parts(prefix + "20260501." + rest)
        if found is not None:
            joined = f"{found['pod']}_{found['namespace']}_{found['container']}-{found['container_id']}"
            assert text.startswith(joined)
            assert re.fullmatch(r"(\.\w+)*", text[len(joined) :], re.ASCII)


@given(st.text("/._-0a1f2z\n:é", max_size=60) | st.text(max_size=60))
def test_the_pattern_built_in_means_the_same_to_both_engines(rest: str) -> None:
    """The quick way to read a Kubernetes name finds what RE2 finds."""
    quick = kubernetes_names("k/")
    slow = NamePattern(
        r"k/\d{8}\.(?P<pod>[^_/]+)_(?P<namespace>[^_/]+)_(?P<container>[^/]+)-(?P<container_id>[0-9a-f]+)(?:\.\w+)*"
    )
    for name in ("k/20260501." + rest, "k/20260501.a_b_" + rest):
        assert quick.parts(name) == slow.parts(name)


@given(LABELS, st.none() | st.text(LOWER, min_size=1, max_size=9), st.text(LOWER + ".é", max_size=20))
def test_a_pattern_of_ones_own_gives_the_parts_that_took_part(tenant: str, region: str | None, file: str) -> None:
    """A group that is optional, and not there, is no part of the name."""
    name = "/".join(filter(None, (tenant, region, f"{file}.log")))
    parts = {"tenant": tenant, "region": region, "file": file}
    assert OWN.parts(name) == {group: text for group, text in parts.items() if text is not None}


@given(st.text(max_size=30), st.text(max_size=60))
def test_a_pattern_is_refused_or_matches_any_name_or_not(text: str, name: str) -> None:
    """Whatever an operator writes and whatever a blob is called, only `ValueError` is raised, and only at the start."""
    try:
        pattern = NamePattern(f"(?P<part>{text})")
    except ValueError:
        return
    found = pattern.parts(name)
    assert found is None or found.keys() <= set(pattern.groups)


@pytest.mark.timeout(60)
def test_a_pattern_takes_linear_time_on_the_worst_names() -> None:
    """What would take longer than the universe with back-tracking is over at once."""
    pattern = NamePattern("(?P<part>((a*)*)*)b")
    for name in ("a" * 1024, "-a" * 512, "-a." * 341 + "/", "_" * 1024, "0" * 1024):
        assert pattern.parts(name) is None
        for start in ("20260501.", "20260501.a_b_"):
            assert kubernetes_names("").parts(f"{start}{name}/") is None
