"""One line about storage that cannot be listed: where, what is wrong, what to do. The monitor's metrics say which container."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from libs.common.azure.storage.api import BlobGone, StorageRefused, StorageUnavailable
from libs.common.azure.storage.failures import Refused
from services.cli.probe import Families

_TROUBLE: Final = "blobtide_blob_monitor_storage_trouble"
_WHAT: Final[dict[str, str]] = {
    BlobGone.__name__: "is not there: check `container` in its sources and the account's name, or create it",
    Refused.__name__: "may not be listed: check the login, its permissions (read, list) and the account's network rules",
    StorageRefused.__name__: "is refused: check the account's address, and what it says in the log",
    StorageUnavailable.__name__: "cannot be reached: check the account's name or address, the network and the login",
}


def storage_trouble(monitor: Families, log: Path) -> str | None:
    """Return a line about the first container that cannot be listed, and how many others cannot; None if all can."""
    failing = sorted(
        (labels["account"], labels["container"], labels["error"]) for labels, value in monitor.get(_TROUBLE, ()) if value
    )
    if not failing:
        return None
    account, container, error = failing[0]
    others = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
    what = _WHAT.get(error, f"cannot be listed ({error})")
    return f"{'storage':14} {'waiting':9} container {container} of {account} {what}; see {log}{others}"
