"""The documentation: generated pages are fresh, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_what_is_generated_is_what_the_definitions_say(tmp_path: Path) -> None:
    """`python docs/generate.py` would change nothing, in the reference and in the templates for OpenSearch."""
    subprocess.run((sys.executable, str(ROOT / "docs" / "generate.py"), str(tmp_path)), cwd=ROOT, check=True, timeout=120)
    generated = [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.parts[:2] for file in generated} == {("docs", "reference"), ("deploy", "opensearch")}
    for file in generated:
        assert (ROOT / file).read_text() == (tmp_path / file).read_text(), "run python docs/generate.py"
    of_opensearch = {file.relative_to(ROOT) for file in (ROOT / "deploy" / "opensearch").rglob("*.json")}
    assert of_opensearch == {file for file in generated if file.parts[0] == "deploy"}


def test_every_setting_has_a_sentence() -> None:
    """No setting stands in the reference without its meaning."""
    rows = re.findall(r"^\| `(\S+)` \|.*\| (.*) \|$", (ROOT / "docs" / "reference" / "settings.md").read_text(), re.MULTILINE)
    assert [name for name, meaning in rows if not meaning.strip()] == []
    assert len(rows) > 100, "the page is read as it is written"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    """No page links to one that is not there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_the_map_of_the_code_names_only_what_exists() -> None:
    """Every file and folder in ARCHITECTURE.md exists, also where only the end of its path is given."""
    listed = subprocess.run(("git", "ls-files"), cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    files = [f"/{file}" for file in listed.stdout.splitlines()]
    named = set(re.findall(r"`([\w./-]+(?:\.(?:py|yaml|md)|/))`", ARCHITECTURE.read_text()))
    assert len(named) > 50, "the page is read as it is written"
    assert sorted(name for name in named if not any(f"/{name}" in file for file in files)) == []


def test_a_stranger_finds_each_place_within_two_jumps() -> None:
    """The table of questions in ARCHITECTURE.md names files and, where a definition follows, one that is in that file."""
    table = re.search(r"^\| to find out .*\n\|[-|]+\n((?:\|.*\n)+)", ARCHITECTURE.read_text(), re.MULTILINE)
    assert table is not None
    for asked in ("a tuple becomes a column", "a sink's offsets are committed", "a setting is declared"):
        assert asked in table[1]
    steps = re.findall(r"`([\w/]+\.py)`, `(?:[A-Z]\w*\.)?(\w+)`", table[1])
    assert len(steps) > 2
    for file, name in steps:
        assert re.search(rf"^\s*(?:def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {name}"
