"""Values for placeholders that a request leaves open: the subscription and the tenant of the collector. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final

import msgspec

from libs.common.errors import ConfigError
from libs.common.settings.collector import CollectorSettings
from services.collector.requests.placeholders import placeholders
from services.collector.requests.schema import ApiRequest, CollectionRequest

_SUBSCRIPTION: Final = ("subscriptionId", "subscription_id")
_TENANT: Final = ("tenantId", "tenant_id")


class _Credentials(msgspec.Struct):
    subscription_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f-]{36}(?!\n)$")]
    tenant_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.-]{1,255}(?!\n)$")]


_decoder: Final = msgspec.json.Decoder(_Credentials)


def defaults_in(text: str) -> dict[str, str]:
    """Return the values by placeholder that a secret holds: JSON with ``subscription_id`` and ``tenant_id``.

    Raises:
        ConfigError: it is something else; the message does not quote it.
    """
    try:
        found = _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise ConfigError(f"not the credentials of a collector, {_FORM}: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise ConfigError(f"not JSON; it must be {_FORM}") from None  # the cause could quote it
    return dict.fromkeys(_SUBSCRIPTION, found.subscription_id) | dict.fromkeys(_TENANT, found.tenant_id)


_FORM: Final = '{"subscription_id": "...", "tenant_id": "..."}'


def with_defaults(request: CollectionRequest, defaults: Mapping[str, str]) -> CollectionRequest:
    """Return a request whose open placeholders have the values of `defaults`, as far as there are any; the same if none is."""
    calls = [_filled(call, defaults) for call in request.api_requests]
    if all(call is before for call, before in zip(calls, request.api_requests, strict=True)):
        return request
    return msgspec.structs.replace(request, api_requests=calls)


def filling_of(settings: CollectorSettings) -> Callable[[CollectionRequest], CollectionRequest]:
    """Return what makes of a request that which can be checked: where the collector has defaults, they are given some value."""
    return assumed if settings.key_vault is not None else lambda request: request


def assumed(request: CollectionRequest) -> CollectionRequest:
    """Return a request as a collector with defaults would fill it, with some value."""
    return with_defaults(request, dict.fromkeys((*_SUBSCRIPTION, *_TENANT), "of-the-collector"))


def _filled(call: ApiRequest, defaults: Mapping[str, str]) -> ApiRequest:
    wanted = (name for name in placeholders(call.resource_path) if name not in call.parameters and name in defaults)
    if added := {name: defaults[name] for name in wanted}:
        return msgspec.structs.replace(call, parameters={**call.parameters, **added})
    return call
