"""Try to read every secret that the settings refer to, and say which can be read; values are never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from libs.common.azure.vault.opening import open_vaults
from libs.common.errors import BlobtideError, ConfigError
from libs.common.settings.loader import raw_settings
from libs.common.settings.references import SecretReader, SecretReference, azure_in, references_in
from services.cli.terminal import say

NAME = "keyvault"


def tried_secrets(config: Path | None) -> list[BlobtideError]:
    """Read each secret once, say what happened, and return what went wrong.

    Raises:
        ConfigError: there is no reference, or a reference or the credential cannot work.
    """
    values = raw_settings(config)
    places = _places(references_in(values))
    if not places:
        raise ConfigError("no setting refers to a key vault: give secrets as kv://VAULT/NAME")
    with closing(open_vaults(azure_in(values))) as reader:
        return [error for reference, settings in places.items() for error in _tried(reader, reference, settings)]


def _tried(reader: SecretReader, reference: SecretReference, settings: list[str]) -> Iterator[BlobtideError]:
    users = ", ".join(settings)
    try:
        reader.read(reference)
    except BlobtideError as error:
        say(f"!!  {NAME}: {error} (for {users})", err=True)
        yield error
    else:
        version = f", version {reference.version}" if reference.version else ""
        say(f"ok  {NAME}: vault {reference.vault}: secret {reference.name}{version} can be read (for {users})")


def _places(references: Mapping[str, SecretReference]) -> dict[SecretReference, list[str]]:
    """Return the settings in which each secret is named."""
    places: dict[SecretReference, list[str]] = {}
    for path, reference in references.items():
        places.setdefault(reference, []).append(path)
    return places
