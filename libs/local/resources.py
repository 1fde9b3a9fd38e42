"""The files of ``deploy/local``: next to the packages in a checkout, inside `services.cli` in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PLACES = (_ROOT / "deploy" / "local", _ROOT / "services" / "cli" / "deploy" / "local")


def resource(name: str) -> Path:
    """Return the path of a file of ``deploy/local``. Raises FileNotFoundError if the installation is broken."""
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    raise FileNotFoundError(f"{name} not found in {', '.join(map(str, _PLACES))}")
