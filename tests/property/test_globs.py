"""Globs on blob names against the plainest possible matcher."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from services.blob_monitor.globs import compile_globs

_PARTS = st.sampled_from(["a", "b", "/", ".", "*", "**", "**/", "?", "{a,b}", "{a/,*b}", "{,?}", "{a,{b,**}}", "ab", "+"])
_GLOBS = st.lists(_PARTS, max_size=7).map("".join)
_NAMES = st.text("ab/.+", max_size=9)


def matches(glob: str, name: str) -> bool:
    """Expand braces one by one, innermost first, then try every possibility character by character."""
    braces = re.search(r"\{([^{}]*)\}", glob)
    if braces:
        return any(matches(glob[: braces.start()] + part + glob[braces.end() :], name) for part in braces[1].split(","))
    return _plain(glob, name)


@cache
def _plain(glob: str, name: str) -> bool:
    if not glob:
        return not name
    if stars := re.match(r"\*\*+", glob):
        rest = glob[stars.end() :]
        if rest.startswith("/") and stars[0] == "**" and _plain(rest[1:], name):
            return True
        return any(_plain(rest, name[i:]) for i in range(len(name) + 1))
    if glob[0] == "*":
        longest = len(name.split("/", 1)[0])
        return any(_plain(glob[1:], name[i:]) for i in range(longest + 1))
    if not name or (glob[0] == "?" and name[0] == "/"):
        return False
    return glob[0] in {"?", name[0]} and _plain(glob[1:], name[1:])


@given(_GLOBS, _NAMES)
def test_a_glob_matches_what_the_plain_matcher_matches(glob: str, name: str) -> None:
    """A compiled glob accepts exactly the names that trying every possibility accepts."""
    try:
        compiled = compile_globs([glob])
    except ConfigError:
        reject()  # too many alternatives; braces always pair here
    assert bool(compiled.fullmatch(name)) == matches(glob, name)


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("**/PT1H.json", "a/b/PT1H.json", "a/b/PT1H.json.tmp"),
        ("**/PT1H.json", "PT1H.json", "aPT1H.json"),
        ("kubernetes/*.{api,apache2-igc}-*", "kubernetes/20260501.api-7_x.gz", "kubernetes/old/20260501.api-7_x.gz"),
        ("a.b", "a.b", "axb"),
        ("a{b,**}/c", "ac", "abbc"),
    ],
)
def test_globs_mean_what_people_expect(glob: str, yes: str, no: str) -> None:
    """Stars stay within a directory, double stars cross directories or none, dots are dots."""
    assert compile_globs([glob]).fullmatch(yes)
    assert not compile_globs([glob]).fullmatch(no)


@pytest.mark.parametrize("glob", ["**a**a**a**a**a**a**b", "*a*a*a*a*a*a*a*b", "**/**/**/**/b"])
def test_no_glob_takes_long(glob: str) -> None:
    """A name as long as Azure allows is refused, where an expression that backtracks would not end within the test's limit."""
    assert not compile_globs([glob]).fullmatch("a" * 512 + "/" + "a" * 511)


@pytest.mark.parametrize("glob", ["{a,b", "a}", "{a,b}" * 12])
def test_a_malformed_glob_is_a_configuration_error(glob: str) -> None:
    """Braces that do not pair, or that multiply beyond measure, are refused by name."""
    with pytest.raises(ConfigError, match="glob"):
        compile_globs([glob])
