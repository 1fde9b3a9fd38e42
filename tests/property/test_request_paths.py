"""Whatever a request says, its path has the segments that it shows."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from services.collector.requests.placeholders import filled
from services.collector.requests.schema import RequestRefused

SEGMENTS = st.sampled_from(["subscriptions", "{a}", "{b}", "x{a}", "{a}{b}", "..", ".", "", "a?b", "@host", "a:b", "%2e%2e"])
VALUES = st.one_of(
    st.text(max_size=6),
    st.text(alphabet="./\\%?#@:;&=2eEfF\r\n\x00 ", max_size=6),
    st.integers(),
)


@given(st.lists(SEGMENTS, min_size=1, max_size=5), VALUES, VALUES)
def test_values_fill_segments_and_change_nothing_else(segments: list[str], a: str | int, b: str | int) -> None:
    """A path is refused, or has as many segments as before, none of them dots, and names no host, query or fragment."""
    path = "/" + "/".join(segments)
    values = {name: value for name, value in (("a", a), ("b", b)) if f"{{{name}}}" in path}
    try:
        full = filled(path, values)
    except RequestRefused:
        return
    parts = urlsplit("https://arm" + full)
    assert (parts.netloc, parts.path, parts.query, parts.fragment) == ("arm", full, "", "")
    wanted = [segment.replace("{a}", str(a)).replace("{b}", str(b)) if "{" in segment else segment for segment in segments]
    assert [unquote(segment) for segment in full.split("/")[1:]] == wanted
    # Not even a server that decodes twice, or takes a backslash for a slash, sees others.
    again = unquote(unquote(full)).replace("\\", "/").split("/")[1:]
    assert again == wanted
    assert not {"", ".", ".."} & set(again)
