"""Open Azure Resource Manager as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from libs.common.azure.arm.api import ArmCall, ArmUnavailable
from libs.common.azure.clouds import CLOUD_HOSTS
from libs.common.azure.credentials import credential_of
from libs.common.azure.endpoint import Endpoint
from libs.common.azure.identity import Identity
from libs.common.azure.retry import RetryPolicy
from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.http.method import Method
from libs.common.security.transport import guard_credentials, is_plain
from libs.common.settings.collector import CollectorSettings

if TYPE_CHECKING:
    from libs.common.azure.arm.client import ArmClient

_WHAT: Final = "Azure Resource Manager"
_CHECK_SECONDS: Final = 3.0
_SUBSCRIPTIONS: Final = ArmCall(Method.GET, "/subscriptions", (("api-version", "2022-12-01"),))


def open_arm(settings: CollectorSettings, policy: RetryPolicy | None = None) -> ArmClient:
    """Return a client; nothing is sent yet.

    Raises:
        ConfigError: if the identity's settings cannot work, tokens would be sent unencrypted without permission, or the extra
            ``azure`` is not installed.
    """
    url = (settings.management_url or CLOUD_HOSTS[settings.identity.cloud].management).rstrip("/")
    parts = urlsplit(url)
    if is_plain(url, "https"):
        guard_credentials(_WHAT, [url], settings)
    try:
        from libs.common.azure.arm.client import POLICY, ArmClient

        credential = credential_of(settings.identity)
    except ModuleNotFoundError as error:
        raise ConfigError(f"collecting needs the extra 'azure' ({error.name} is missing): blobtide[azure]") from error
    endpoint = Endpoint(parts.scheme, parts.hostname or "", parts.port, "")
    return ArmClient(endpoint, Identity(credential, f"{url}/.default"), policy or POLICY)


def check_arm(settings: CollectorSettings) -> int:
    """Sign in and list subscriptions; return how many the identity sees.

    Raises:
        ConfigError: the settings cannot work, or the identity sees no subscription.
        ServerUnreachable: there is no token, or Azure does not answer within seconds.
        ArmError: Azure refuses.
    """
    client = open_arm(settings, RetryPolicy(deadline=_CHECK_SECONDS))
    from libs.common.azure.arm.pages import ArmLists

    try:
        seen = sum(page.elements for page in ArmLists(client).pages(_SUBSCRIPTIONS))
    except ArmUnavailable as error:
        raise ServerUnreachable(str(error)) from error
    finally:
        client.close()
    if not seen:
        raise ConfigError("Azure accepts the identity, but it sees no subscription; grant it the role Reader on one")
    return seen
