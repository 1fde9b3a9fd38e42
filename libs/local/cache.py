"""A cache of fetched directories, which are complete or absent and made by one process at a time.

It is in ``$BLOBTIDE_HOME/cache``, else ``$XDG_CACHE_HOME/blobtide``, else ``~/.cache/blobtide``; you may delete it at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.common.security.private_files import private
from libs.common.security.visible import visible


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to fetch: a readable name, and the files whose content determines what is fetched."""

    name: str
    sources: tuple[Path, ...]

    def key(self) -> str:
        """Return the directory's name, which changes with the content of any source."""
        digest = hashlib.sha256()
        for source in self.sources:
            digest.update(hashlib.sha256(source.read_bytes()).digest())
        return f"{self.name}-{digest.hexdigest()[:16]}"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the cache directory."""
    if home := environ.get("BLOBTIDE_HOME"):
        return Path(home) / "cache"
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blobtide"


def fetched(recipe: Recipe, fetch: Callable[[Path], None]) -> Path:
    """Return the directory of `recipe`, filled by `fetch` if it does not exist yet.

    `fetch` gets an empty directory, which appears under its final name only after `fetch` has returned. If `fetch` raises, its
    exception is passed on and nothing remains.
    """
    target = cache_dir() / recipe.key()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w", opener=private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _fetch_into(target, recipe.name, fetch)
    return target


def _fetch_into(target: Path, name: str, fetch: Callable[[Path], None]) -> None:
    began = time.monotonic()
    _say(f"fetching {name} once into {target} ...")
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        fetch(partial)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _say(f"fetched {name} in {time.monotonic() - began:.0f} s")


def _say(text: str) -> None:
    sys.stderr.write(visible(f"blobtide: {text}\n"))
    sys.stderr.flush()
