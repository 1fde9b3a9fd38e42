"""The names of hosts in each cloud of Azure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.settings.azure import Cloud


@dataclass(frozen=True, slots=True)
class CloudHosts:
    """Where the services of a cloud are.

    Attributes:
        authority: host that hands out tokens; None leaves it to ``AZURE_AUTHORITY_HOST``, and to the public cloud's.
        management: URL of Azure Resource Manager.
        storage: DNS suffix of storage accounts.
        vaults: DNS suffix of key vaults, and the name of the permission to use them.
    """

    authority: str | None
    management: str
    storage: str
    vaults: str


CLOUD_HOSTS: Final = {
    Cloud.PUBLIC: CloudHosts(None, "https://management.azure.com", "core.windows.net", "vault.azure.net"),
    Cloud.GOVERNMENT: CloudHosts(
        "login.microsoftonline.us",
        "https://management.usgovcloudapi.net",
        "core.usgovcloudapi.net",
        "vault.usgovcloudapi.net",
    ),
    Cloud.CHINA: CloudHosts(
        "login.chinacloudapi.cn", "https://management.chinacloudapi.cn", "core.chinacloudapi.cn", "vault.azure.cn"
    ),
}
