"""Open Key Vault as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.common.errors import ConfigError
from libs.common.settings.azure import AzureSettings

if TYPE_CHECKING:
    from libs.common.azure.retry import RetryPolicy
    from libs.common.azure.vault.client import KeyVaults


def open_vaults(azure: AzureSettings, policy: RetryPolicy | None = None) -> KeyVaults:
    """Return what reads secrets; nothing is sent yet.

    Raises:
        ConfigError: if the credential cannot work, or the extra ``azure`` is not installed.
    """
    try:
        from libs.common.azure.credentials import credential_of
        from libs.common.azure.identity import Identity
        from libs.common.azure.vault.client import POLICY, KeyVaults, VaultPlace

        place = VaultPlace.of(azure.cloud)
        return KeyVaults(place, Identity(credential_of(azure), place.scope), policy or POLICY)
    except ModuleNotFoundError as error:
        raise ConfigError(f"kv://... needs the extra 'azure' ({error.name} is missing): blobtide[azure]") from error
