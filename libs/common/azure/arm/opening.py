"""Open Azure Resource Manager as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from libs.common.azure.endpoint import Endpoint
from libs.common.azure.identity import Identity, default_credential
from libs.common.errors import ConfigError
from libs.common.security.transport import guard_credentials, is_plain
from libs.common.settings.collector import CollectorSettings

if TYPE_CHECKING:
    from libs.common.azure.arm.client import ArmClient

_WHAT = "Azure Resource Manager"


def open_arm(settings: CollectorSettings) -> ArmClient:
    """Return a client; nothing is sent yet.

    Raises:
        ConfigError: if tokens would be sent unencrypted without permission, or the extra ``azure`` is not installed.
    """
    url = settings.management_url.rstrip("/")
    parts = urlsplit(url)
    if is_plain(url, "https"):
        guard_credentials(_WHAT, [url], settings)
    try:
        from libs.common.azure.arm.client import ArmClient

        credential = default_credential(settings.managed_identity_client_id)
    except ModuleNotFoundError as error:
        raise ConfigError(f"collecting needs the extra 'azure' ({error.name} is missing): blobtide[azure]") from error
    return ArmClient(Endpoint(parts.scheme, parts.hostname or "", parts.port, ""), Identity(credential, f"{url}/.default"))
