"""Try to read every secret that the settings refer to, and say which can be read; values are never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from libs.common.azure.vault.opening import open_vaults
from libs.common.errors import BlobtideError, ConfigError
from libs.common.settings.collector import CollectorVault
from libs.common.settings.loader import raw_settings
from libs.common.settings.problems import describe_problems
from libs.common.settings.references import SecretReader, SecretReference, azure_in, references_in
from services.cli.terminal import say
from services.collector.requests.defaults import defaults_in

NAME: Final = "keyvault"
CREDENTIALS: Final = "collector.key_vault"


def tried_secrets(config: Path | None) -> list[BlobtideError]:
    """Read each secret once, say what happened, and return what went wrong.

    Raises:
        ConfigError: there is no reference, or a reference or the credential cannot work.
    """
    values = raw_settings(config)
    creds = _credentials_in(values)
    places = _places({**references_in(values), **({CREDENTIALS: creds} if creds else {})})
    if not places:
        raise ConfigError("no setting refers to a key vault: give secrets as kv://VAULT/NAME")
    with closing(open_vaults(azure_in(values))) as reader:
        return [error for reference, settings in places.items() for error in _tried(reader, reference, settings)]


def _tried(reader: SecretReader, reference: SecretReference, settings: list[str]) -> Iterator[BlobtideError]:
    users = ", ".join(settings)
    try:
        text = reader.read(reference)
        if CREDENTIALS in settings:
            _check_credentials(text, reference)
    except BlobtideError as error:
        say(f"!!  {NAME}: {error} (for {users})", err=True)
        yield error
    else:
        version = f", version {reference.version}" if reference.version else ""
        say(f"ok  {NAME}: vault {reference.vault}: secret {reference.name}{version} can be read (for {users})")


def _check_credentials(text: str, reference: SecretReference) -> None:
    try:
        defaults_in(text)
    except ConfigError as error:
        raise ConfigError(f"{reference}: {error}") from error


def _credentials_in(values: Mapping[str, Any]) -> SecretReference | None:
    """Return the secret that the collector reads by itself. Raises `ConfigError`."""
    group = values.get("collector")
    given = group.get("key_vault") if isinstance(group, dict) else None
    if given is None:
        return None
    try:
        return CollectorVault.model_validate(given).reference
    except ValidationError as error:
        raise ConfigError(describe_problems(error, CollectorVault, f"{CREDENTIALS}.")) from error


def _places(references: Mapping[str, SecretReference]) -> dict[SecretReference, list[str]]:
    """Return the settings in which each secret is named."""
    places: dict[SecretReference, list[str]] = {}
    for path, reference in references.items():
        places.setdefault(reference, []).append(path)
    return places
