"""The documentation: generated pages are fresh, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_generated_reference_pages_are_what_the_definitions_say(tmp_path: Path) -> None:
    """`python docs/generate.py` would change nothing."""
    subprocess.run((sys.executable, str(ROOT / "docs" / "generate.py"), str(tmp_path)), cwd=ROOT, check=True, timeout=120)
    for page in filter(Path.is_file, tmp_path.rglob("*")):
        written = ROOT / "docs" / "reference" / page.relative_to(tmp_path)
        assert written.read_text() == page.read_text(), "run python docs/generate.py"


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
