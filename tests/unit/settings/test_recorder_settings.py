"""Sources as settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.settings.recorder import HttpSourceSettings, RecorderSettings

URL = "http://127.0.0.1:8000"


def test_presets_are_those_of_the_network_state_recorder() -> None:
    """Its two sources need nothing but the preset; what is given besides it stands."""
    found = RecorderSettings.model_validate(
        {"sources": [{"preset": "ndtwin_flows"}, {"preset": "ndtwin_graph", "url": "https://twin:8443", "interval_seconds": 5}]}
    )
    flows, graph = found.sources
    assert (flows.name, flows.address, flows.wrap, flows.interval_seconds) == (
        "flowinfo",
        f"{URL}/ndt/get_detected_flow_data",
        "flowinfo",
        1.0,
    )
    assert (graph.name, graph.address, graph.wrap, graph.interval_seconds) == (
        "graphinfo",
        "https://twin:8443/ndt/get_graph_data",
        "",
        5.0,
    )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"url": "ftp://host"}, "give addresses as"),
        ({"url": "http://user:pass@host"}, "give user and password as"),
        ({"url": "http://host?key=1"}, "give addresses as"),
        ({"path": "no/slash"}, "a path begins with a slash"),
        ({"path": "/x?query"}, "see params"),
        ({"name": "../x"}, "String should match"),
        ({"interval_seconds": 0}, "greater than or equal to 0.1"),
        ({"jitter_seconds": 1}, "less than interval_seconds"),
        ({"body": "{}"}, "set method: POST"),
        ({"wrap": "timestamp"}, "choose another name"),
        ({"params": {"api_key": "x"}}, "param_files"),
        ({"params": {"a": "x"}, "param_files": {"a": "/x"}}, "a is in params and in param_files"),
        ({"headers": {"Authorization": "x"}}, "header_files"),
        ({"username": "u", "password": "p", "bearer_token": "t"}, "only one way to sign in"),
    ],
)
def test_what_cannot_work_is_refused(source: dict[str, Any], problem: str) -> None:
    """Each mistake is named with what to do."""
    with pytest.raises(ValidationError, match=problem):
        HttpSourceSettings.model_validate({"name": "x", "url": URL, **source})


def test_names_are_unique() -> None:
    """Two sources of one name would be one in the topic."""
    with pytest.raises(ValidationError, match="two sources are named x"):
        RecorderSettings.model_validate({"sources": [{"name": "x", "url": URL}, {"name": "x", "url": URL}]})
