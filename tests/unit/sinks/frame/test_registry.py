"""The finding of sinks and the checking of their options."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libs.common.errors import ConfigError
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings
from services.cli.main import blobtide
from services.sinks.frame.kind import Kind, all_kinds, find_kind, kind_names
from services.sinks.frame.registry import configured_sink
from services.sinks.frame.settings import SinkSettings
from services.sinks.main import build
from tests.flows import rows, table

ROOT = Path(__file__).parents[4]
TOY = """
from services.sinks.frame.contract import Outcome, Sink
from services.sinks.frame.settings import SinkSettings

class Own(SinkSettings):
    "Options."

class Toy(Sink):
    def __init__(self, settings, row_type):
        self.row_type = row_type

    def write(self, parts):
        return Outcome(0)
"""


@pytest.mark.parametrize("name", kind_names())
def test_every_kind_is_where_it_says(name: str) -> None:
    """Each package of a kind names a sink's class and that of its settings, and looking at it loads no driver."""
    kind = find_kind(name)
    assert kind is not None
    assert issubclass(kind.load(kind.settings), SinkSettings)
    assert callable(kind.load(kind.sink))
    code = (
        f"import sys, services.sinks.kinds.{name} as m; assert not {{'pyarrow', 'redis', 'urllib3'}} & set(sys.modules); m.KIND"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        ({}, "fiel", "sinks.fiel: unknown sink 'fiel'; did you mean file?"),
        ({}, "nope", "add sinks.nope with its kind to the settings"),
        ({"cold": {"kind": "file"}}, "colt", "did you mean cold?"),
        ({"a": {"kind": "kafkaesque"}}, "a", "sinks.a: unknown sink 'kafkaesque'; did you mean kafka?"),
        ({"a": {"kind": ["file"]}}, "a", "sinks.a: unknown sink ['file']"),
        ({"denied": {"where": "dst_port = 22"}}, "denied", "; to use this name, set sinks.denied.kind to one of them"),
        ({"a b": {"kind": "stdout"}}, "a b", "letters, digits"),
        ({}, "file", "sinks.file.directory: missing"),
        ({"stdout": {"fromat": "csv"}}, "stdout", "sinks.stdout.fromat: unknown setting; did you mean format?"),
        ({"stdout": {"batch": {"secnds": 1}}}, "stdout", "sinks.stdout.batch.secnds: unknown setting; did you mean seconds?"),
        ({"stdout": {"batch": {"seconds": -1}}}, "stdout", "sinks.stdout.batch.seconds: Input should be greater than 0"),
        ({"stdout": {"rows": "flow"}}, "stdout", "sinks.stdout.rows: unknown row type flow; did you mean flows?"),
        (
            {"summary": {"directory": "x", "rows": "dead_letters"}},
            "summary",
            "rows: the summary sink supports flows, not dead_letters",
        ),
        ({"summary": {"directory": "x", "sample": 0.5}}, "summary", "sample has no effect on sums"),
        ({"stdout": {"columns": "time,tim"}}, "stdout", "sinks.stdout.columns: unknown column tim; did you mean time?"),
        ({"stdout": {"columns": ["time", "time"]}}, "stdout", "sinks.stdout.columns: duplicate column time"),
        ({"file": {"directory": "x", "columns": ["tim"]}}, "file", "sinks.file.columns: unknown column tim"),
        ({"stdout": {"rename": {"tim": "t"}}}, "stdout", "sinks.stdout.rename: unknown column tim"),
        ({"hot": {"kind": "stdout", "where": "acton = 'deny'"}}, "hot", "did you mean action?"),
        ({"hot": {"kind": "stdout", "where": "read_csv('/etc/passwd')"}}, "hot", "sinks.hot.where: "),
        ({"stdout": {"sample": 0}}, "stdout", "sinks.stdout.sample: Input should be greater than 0"),
        (
            {"redis": {"rows": "dead_letters", "format": "ecs"}},
            "redis",
            "sinks.redis.format: ecs is not available for dead_letters",
        ),
        ({"redis": {"format": "csv"}}, "redis", "sinks.redis.format: csv does not produce JSON documents"),
        ({"elasticsearch": {"format": "otel"}}, "elasticsearch", "sinks.elasticsearch.format: an index supports ecs or json"),
        (
            {"elasticsearch": {"rename": {"src_ip": "a"}}},
            "elasticsearch",
            "sinks.elasticsearch.rename: the names of ecs are fixed",
        ),
    ],
)
def test_wrong_options_are_named_by_path(options: dict[str, Any], name: str, message: str) -> None:
    """Errors say which option of which sink is wrong, and what was probably meant."""
    with pytest.raises(ConfigError) as error:
        configured_sink(options, name)
    assert message in str(error.value)


def test_an_instance_is_configuration() -> None:
    """Row type, condition, columns and sample of an instance are checked and kept apart from those of others of its kind."""
    options: dict[str, Any] = {
        "hot": {"kind": "redis", "where": "in_subnet(src_ip, '10.0.0.0/8')", "rename": {"src_ip": "source.ip"}, "sample": 0.5},
        "letters": {"kind": "redis", "rows": "dead_letters"},
    }
    hot, letters = (configured_sink(options, name) for name in options)
    assert (hot.row_type, letters.row_type) == (FLOWS, DEAD_LETTERS)
    assert hot.selection.added == ("sample_weight",)
    assert hot.selection.select(table(rows())).rows.num_rows > 0
    assert letters.selection.condition is None


def test_one_kind_can_run_twice(tmp_path: Path) -> None:
    """`kind` makes a sink of another name."""
    options = {name: {"kind": "file", "directory": str(tmp_path / name)} for name in ("hot", "cold")}
    assert [configured_sink(options, name).name for name in options] == ["hot", "cold"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that installs a distribution with a sink of some name."""

    def install(name: str, kind: str, code: str = "") -> None:
        (tmp_path / f"{name}_sink").mkdir()
        (tmp_path / f"{name}_sink" / "__init__.py").write_text(f"from services.sinks.frame.kind import Kind\nKIND = {kind}\n")
        (tmp_path / f"{name}_sink" / "sink.py").write_text(code)
        meta = tmp_path / f"{name}_sink-1.0.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-sink\nVersion: 1.0\n")
        (meta / "entry_points.txt").write_text(f"[blobtide.sinks]\n{name} = {name}_sink:KIND\n")
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_a_missing_library_names_the_extra(installed: Callable[..., None]) -> None:
    """Without its library a sink says what to install."""
    installed(
        "odd",
        "Kind('odd things', 'odd_sink.sink:A', 'odd_sink.sink:B', extra='oddly', library='not_there')",
        "import not_there",
    )
    with pytest.raises(ConfigError, match=r"the odd sink needs not_there: pip install 'blobtide\[oddly\]'"):
        configured_sink({}, "odd")
    listed = CliRunner().invoke(blobtide, ["sinks"]).output
    assert "no: pip install 'blobtide[oddly]'  odd things" in listed


def test_a_library_in_a_package_that_is_missing_is_not_installed() -> None:
    """A library may be a part of a package, which is missing as a whole."""
    assert not Kind("odd things", "a:A", "a:B", extra="oddly", library="not_there.at_all").is_installed


def test_a_sink_of_another_distribution_is_found(installed: Callable[..., None]) -> None:
    """What an installed distribution names in the group of entry points is a kind like ours."""
    installed("toy", "Kind('odd things', 'toy_sink.sink:Toy', 'toy_sink.sink:Own')", TOY)
    assert type(configured_sink({"a": {"kind": "toy"}}, "a").sink).__name__ == "Toy"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [("file", "Kind('', '', '')", "file-sink provides a sink file, which already exists"), ("none", "None", "has no Kind")],
)
def test_a_sink_that_cannot_be_one_is_refused(installed: Callable[..., None], name: str, kind: str, message: str) -> None:
    """A name that is taken, and something that is no kind, are said at once and not found out by chance."""
    installed(name, kind)
    with pytest.raises(ConfigError, match=message):
        configured_sink({}, name)


def test_a_distribution_that_cannot_be_loaded_is_named(installed: Callable[..., None]) -> None:
    """An entry point that leads nowhere is the operator's to remove, not a crash of every command."""
    installed("torn", "None\nimport not_there")
    result = CliRunner().invoke(blobtide, ["sinks"])
    assert isinstance(result.exception, ConfigError), result.exception
    assert "the sink torn cannot be loaded: No module named 'not_there'" in str(result.exception)


def test_a_sink_that_shares_its_memory_does_not_start(tmp_path: Path) -> None:
    """Two instances with one directory would each take the other's rows for its own, whichever of them is started."""
    shared = {"kind": "file", "directory": str(tmp_path)}
    sinks = {"hot": {**shared, "where": "dst_port = 22"}, "cold": shared, "other": {"kind": "redis"}, "odd": {"kind": "odd"}}
    for name in ("hot", "cold"):
        with pytest.raises(ConfigError, match=r"sinks\.hot and sinks\.cold share the directory"):
            build(Settings(sinks=sinks), name)
    build(Settings(sinks=sinks), "other")


def test_the_command_lists_sinks_and_says_what_needs_no_setup() -> None:
    """`blobtide sinks` shows each kind with its promise; `sink-setup` of a sink without set-up says so."""
    listed = CliRunner().invoke(blobtide, ["sinks"]).output
    assert all(name in listed and " or ".join(kind.promises) in listed for name, kind in all_kinds().items())
    assert CliRunner().invoke(blobtide, ["sink-setup", "stdout"]).output == "stdout: needs no set-up\n"
    assert CliRunner().invoke(blobtide, ["sink-maintain", "stdout"]).output == "stdout: needs no maintenance\n"


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 8_388_608),
        ({"where": "dst_port = 22"}, 2_097_152),
        ({"where": "dst_port = 22", "batch": {"bytes": 4_000_000}}, 4_000_000),
        ({"sample": 0.5}, 8_388_608),
    ],
)
def test_a_sink_with_a_condition_takes_smaller_batches(options: dict[str, Any], size: int, tmp_path: Path) -> None:
    """The engine of a condition has its share of the memory, unless a size is given."""
    assert configured_sink({"file": {"directory": str(tmp_path), **options}}, "file").settings.poll_bytes == size


def test_a_sink_reads_the_topic_of_its_rows_or_the_one_it_is_told() -> None:
    """Aggregations may have topics of their own; a name that Kafka does not allow is refused."""
    topics = Settings().topics
    for options, expected in (
        ({}, topics.flows),
        ({"rows": "rollups"}, topics.rollups),
        ({"rows": "rollups", "read_topic": topics.rollups_1h}, topics.rollups_1h),
    ):
        found = configured_sink({"stdout": options}, "stdout")
        assert found.settings.source_topic(found.row_type, topics) == expected
    with pytest.raises(ConfigError, match=r"sinks\.stdout\.read_topic"):
        configured_sink({"stdout": {"read_topic": "no spaces"}}, "stdout")
