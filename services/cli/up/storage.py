"""One line about storage that cannot be listed: where, why, and what to do; taken from the monitor's metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from libs.common.azure.storage.api import BlobGone, StorageRefused, StorageUnavailable
from libs.common.azure.storage.failures import Refused
from services.cli.probe import Families

_TROUBLE: Final = "blobtide_blob_monitor_storage_trouble"
_WHAT: Final[dict[str, str]] = {
    BlobGone.__name__: "does not exist: check `container` in its sources and the account name, or create it",
    Refused.__name__: "cannot be listed (access denied): check the login, its permissions (read, list) and the account's "
    "network rules",
    StorageRefused.__name__: "cannot be listed (request rejected): check the account's address and the error in the log",
    StorageUnavailable.__name__: "is unreachable: check the account's name or address, the network and the login",
}


def storage_trouble(monitor: Families, log: Path) -> str | None:
    """Return a line about the first container that cannot be listed, with the number of others; None if all can."""
    failing = sorted(
        (labels["account"], labels["container"], labels["error"]) for labels, value in monitor.get(_TROUBLE, ()) if value
    )
    if not failing:
        return None
    account, container, error = failing[0]
    others = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
    what = _WHAT.get(error, f"cannot be listed ({error})")
    return f"{'storage':14} {'waiting':9} container {container} of {account} {what}; see {log}{others}"
