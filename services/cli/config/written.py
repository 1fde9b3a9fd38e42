"""Write a settings file that holds credentials: only its owner may read it, and it works, or the old one remains."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

import yaml

from libs.common.errors import ConfigError
from libs.common.security.private_files import DIRECTORY_MODE, FILE_MODE
from libs.common.settings import load_unread

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_HEADER: Final = "# Settings of blobtide, with credentials: keep it readable by its owner only.\n"


def text_of(values: dict[str, Any]) -> str:
    """Return settings as the text of a file."""
    return _HEADER + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def write(file: Path, values: dict[str, Any]) -> Path | None:
    """Write settings, after checking that they can be loaded; return where the previous ones are kept.

    Raises:
        ConfigError: if they are invalid, or the file cannot be written; the old file is then unchanged.
    """
    fresh = file.with_name(f".{file.name}.new")
    try:
        if not file.parent.exists():
            file.parent.mkdir(mode=DIRECTORY_MODE, parents=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, _NEW, FILE_MODE), "w") as out:
            out.write(text_of(values))
        try:
            load_unread(fresh)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(fresh), str(file))) from error
        kept = _keep(file)
        fresh.replace(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return kept


def others_may_read(file: Path) -> bool:
    """Return whether anybody but the owner may read or change a file."""
    return bool(file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _keep(file: Path) -> Path | None:
    if not file.exists():
        return None
    kept = file.with_name(f"{file.name}.bak")
    kept.unlink(missing_ok=True)
    with os.fdopen(os.open(kept, _NEW, FILE_MODE), "wb") as out:
        out.write(file.read_bytes())
    return kept
