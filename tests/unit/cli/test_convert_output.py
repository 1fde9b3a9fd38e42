"""Where `blobtide convert` writes: standard output of every kind, files, devices; what a failure says and leaves behind."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from tests.unit.parser.test_kernel import GOOD, vnet

ROWS = 20_000
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A file of many rows, far more than a pipe holds."""
    file = tmp_path / "many.ndjson"
    file.write_bytes((json.dumps(vnet(*[GOOD] * 200)).encode() + b"\n") * (ROWS // 200))
    return file


def start(
    *words: object, stdout: IO[Any] | int, environ: dict[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start `blobtide convert`."""
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"} | (environ or {})
    argv = (sys.executable, "-m", "services.cli.main", "convert", *map(str, words))
    return subprocess.Popen(argv, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env, **options)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return how it ended and what it said."""
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def few_bytes() -> None:
    """Let the process write no file above a megabyte."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))


@pytest.mark.parametrize("environ", [{}, UNBUFFERED], ids=["buffered", "unbuffered"])
def test_rows_that_do_not_fit_are_an_error(many: Path, tmp_path: Path, environ: dict[str, str]) -> None:
    """Standard output that takes only a part is said in one line, whether Python buffers it or not."""
    with (tmp_path / "out").open("wb") as out:
        code, said = ended(start(many, stdout=out, environ=environ, preexec_fn=few_bytes))
    assert (code, said) == (1, "blobtide: standard output: cannot write: File too large\n")


@pytest.mark.parametrize("form", ["ndjson", "csv", "table", "parquet"])
@pytest.mark.parametrize("environ", [{}, UNBUFFERED], ids=["buffered", "unbuffered"])
def test_a_full_device_is_one_line_that_names_standard_output(
    many: Path, tmp_path: Path, form: str, environ: dict[str, str]
) -> None:
    """It is standard output that is full, not the file of errors, which does not appear."""
    with Path("/dev/full").open("wb") as out:
        words = (many, "--format", form, "--errors", tmp_path / "e.json")
        code, said = ended(start(*words, stdout=out, environ=environ))
    assert (code, said) == (1, "blobtide: standard output: cannot write: No space left on device\n")
    assert list(tmp_path.iterdir()) == [many]


@pytest.mark.parametrize(("form", "taken"), [("ndjson", 4), ("table", 4), ("parquet", 0)])
@pytest.mark.parametrize("environ", [{}, UNBUFFERED], ids=["buffered", "unbuffered"])
def test_a_reader_that_goes_away_ends_it_quietly(
    many: Path, tmp_path: Path, form: str, taken: int, environ: dict[str, str]
) -> None:
    """`convert ... | head` is no error, and nothing claims that all rows were written."""
    reader, writer = os.pipe()
    process = start(many, "--format", form, "--errors", tmp_path / "e.json", stdout=writer, environ=environ)
    os.close(writer)
    os.read(reader, taken)
    os.close(reader)
    assert ended(process) == (0, "")


def test_a_slow_reader_gets_every_row(many: Path) -> None:
    """Short writes to a pipe are gone on with."""
    process = start(many, stdout=subprocess.PIPE, environ=UNBUFFERED)
    lines, said = process.communicate(timeout=60)
    assert (process.returncode, lines.count("\n")) == (0, ROWS), said


def a_device(path: Path, minor: int) -> None:
    """Make the null (3) or the full (7) device, which only root may. The machine's own are not given as files to anything."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        path.write_bytes(b"")
    except OSError as error:
        pytest.skip(f"no device can be made here: {error}")


def a_null_device(path: Path) -> None:
    """Make a device that takes everything."""
    a_device(path, 3)


@pytest.mark.parametrize("make", [os.mkfifo, a_null_device])
@pytest.mark.parametrize("option", ["-o", "--errors"])
def test_what_is_no_regular_file_is_written_in_place(
    many: Path, tmp_path: Path, make: Callable[[Path], None], option: str
) -> None:
    """A named pipe and a device stay what they are."""
    target = tmp_path / "target"
    make(target)
    kind = stat.S_IFMT(target.stat().st_mode)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(target.read_bytes()), daemon=True)
    reader.start()
    code, said = ended(start(many, option, target, stdout=subprocess.DEVNULL))
    assert code == 0, said
    assert stat.S_IFMT(target.stat().st_mode) == kind
    reader.join(60)
    if make is os.mkfifo:
        assert got[0].count(b"\n") == (ROWS if option == "-o" else 0)
    assert {path.name for path in tmp_path.iterdir()} == {"many.ndjson", "target"}


def test_a_full_file_is_one_line_that_names_it(many: Path, tmp_path: Path) -> None:
    """Rows that do not fit in --output are blamed on it, although --errors was opened too."""
    full = tmp_path / "full"
    a_device(full, 7)
    code, said = ended(start(many, "-o", full, "--errors", tmp_path / "e.json", stdout=subprocess.DEVNULL))
    assert (code, said) == (1, f"blobtide: {full}: cannot write: No space left on device\n")
    assert set(tmp_path.iterdir()) == {many, full}


def test_a_named_pipe_whose_reader_goes_away_is_an_error(many: Path, tmp_path: Path) -> None:
    """Only standard output may be closed early; elsewhere rows or errors would be missing without a word."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start(many, "-o", pipe, stdout=subprocess.DEVNULL)
    with pipe.open("rb", buffering=0) as reader:
        reader.read(1)
    assert ended(process) == (1, f"blobtide: {pipe}: cannot write: Broken pipe\n")


def test_a_symlink_is_followed(many: Path, tmp_path: Path) -> None:
    """The file that it points to is replaced, not the link."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "rows")
    code, said = ended(start(many, "-o", tmp_path / "link", stdout=subprocess.DEVNULL))
    assert code == 0, said
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "rows").read_bytes().count(b"\n") == ROWS


def test_two_runs_into_one_file_do_not_mix(many: Path, tmp_path: Path) -> None:
    """Each writes a file of its own beside it; the one that ends last is there, whole."""
    runs = [start(many, "-o", tmp_path / "rows", stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [ended(run)[0] for run in runs] == [0, 0]
    assert (tmp_path / "rows").read_bytes().count(b"\n") == ROWS
    assert {path.name for path in tmp_path.iterdir()} == {"many.ndjson", "rows"}
