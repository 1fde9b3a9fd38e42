"""References to secrets of Azure Key Vault in place of any text in the settings: ``kv://VAULT/NAME``, ``kv://VAULT/NAME/VERSION``.

A reference names a vault, never a host. Who reads it is given to the loader, because settings know nothing of Azure. Each
secret is read once, however many settings name it, and is redacted from every output like a secret in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pydantic import ValidationError

from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from libs.common.security.redaction import remember
from libs.common.settings.azure import AzureSettings
from libs.common.settings.problems import describe_problems
from libs.common.settings.secrets import REFERENCE

VAULT_PATTERN: Final = r"[A-Za-z](?:[A-Za-z0-9]|-(?!-)){1,22}[A-Za-z0-9]"
NAME_PATTERN: Final = r"[A-Za-z0-9-]{1,127}"
_FORM: Final = re.compile(rf"kv://({VAULT_PATTERN})/({NAME_PATTERN})(?:/([0-9A-Fa-f]{{32}}))?")
_AZURE: Final = "azure"  # the group that says who reads references


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A secret in a key vault: a version of it, or None for the current one."""

    vault: str
    name: str
    version: str | None = None

    def __str__(self) -> str:
        """Return it as it stands in the settings."""
        return f"{REFERENCE}{self.vault}/{self.name}" + (f"/{self.version}" if self.version else "")


class SecretReader(Protocol):
    """Reads secrets."""

    def read(self, reference: SecretReference) -> str:
        """Return the value.

        Raises:
            ConfigError: it cannot be had, however often it is asked for.
            ServerUnreachable: the vault does not answer, or there is no token.
        """

    def close(self) -> None:
        """Close connections."""


OpenReader = Callable[[AzureSettings], SecretReader]
Wanted = Callable[[str], bool]
"""Says by the path of a setting whether its secret is needed; what is not stays a reference."""


def refuse_references(azure: AzureSettings) -> SecretReader:
    """Refuse to read any: for whoever does not say how."""
    del azure
    raise ConfigError("references to key vaults (kv://...) are not read here")


def references_in(values: Mapping[str, Any]) -> dict[str, SecretReference]:
    """Return the references in settings by the path of the setting.

    Raises:
        ConfigError: if one is malformed, or stands where none can; names each such setting.
    """
    found = dict[str, SecretReference]()
    problems = [
        f"{path or 'settings'}: has a name that is a reference; only values come from a key vault" for path in _named(values)
    ]
    for path, text in _found(values, ""):
        try:
            found[path] = _parsed(path, text)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    return found


@dataclass(frozen=True, slots=True)
class ResolvedSettings:
    """Plain settings.

    Attributes:
        secrets: texts in them that are not in the file or the environment, but from key vaults.
        unread: references that still stand in them, by the path of the setting.
    """

    values: dict[str, Any] = field(repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    unread: Mapping[str, SecretReference] = field(default_factory=dict)


def resolved(values: dict[str, Any], open_reader: OpenReader, wanted: Wanted) -> ResolvedSettings:
    """Return settings with the secrets in place of the references that are wanted; nothing is asked if there are none.

    Raises:
        ConfigError: a reference or the credential cannot work, or secrets cannot be had; names each setting.
        ServerUnreachable: a vault does not answer, or there is no token; names the setting.
    """
    references = references_in(values)
    needed = {path: reference for path, reference in references.items() if wanted(path)}
    if not needed:
        return ResolvedSettings(values, unread=references)
    reader = open_reader(azure_in(values))
    try:
        secrets = _read(needed, reader)
    finally:
        reader.close()
    by_text = {text: secrets[references[path]] for path, text in _found(values, "") if references[path] in secrets}
    unread = {path: reference for path, reference in references.items() if reference not in secrets}
    return ResolvedSettings(_replaced(values, by_text), frozenset(secrets.values()), unread)


def azure_in(values: Mapping[str, Any]) -> AzureSettings:
    """Return the group that says who reads references. Raises `ConfigError`."""
    try:
        return AzureSettings.model_validate(values.get(_AZURE, {}))
    except ValidationError as error:
        raise ConfigError(describe_problems(error, AzureSettings, f"{_AZURE}.")) from error


def _read(references: Mapping[str, SecretReference], reader: SecretReader) -> dict[SecretReference, str]:
    """Read each secret once. A vault that does not answer ends it; everything else is collected."""
    secrets, problems = dict[SecretReference, str](), dict[SecretReference, str]()
    for path, reference in references.items():
        if reference in secrets or reference in problems:
            continue
        try:
            secrets[reference] = _usable(reader.read(reference), reference)
        except ServerUnreachable as error:
            raise ServerUnreachable(f"{path}: {error}") from error
        except BlobtideError as error:
            problems[reference] = f"{path}: {error}"
    if problems:
        raise ConfigError("; ".join(problems.values()))
    return secrets


def _usable(value: str, reference: SecretReference) -> str:
    text = value.strip("\r\n")
    if not text:
        raise ConfigError(f"{reference} is empty")
    if text.lower().startswith(REFERENCE):
        raise ConfigError(f"{reference} is a reference itself, which is not followed; name its secret in the settings")
    remember(text)
    return text


def _parsed(path: str, text: str) -> SecretReference:
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{path}: not a reference to a secret: give kv://VAULT/NAME or kv://VAULT/NAME/VERSION, with the name of a key "
            "vault (3 to 24 letters, digits and single hyphens), not its address"
        )
    if path.partition(".")[0] == _AZURE:
        raise ConfigError(
            f"{path}: cannot come from a key vault, because it is needed to open one; give it as a file (..._file), or sign in "
            "without a secret (managed_identity, workload_identity)"
        )
    if path.endswith("_file"):
        other = path.rpartition(".")[2].removesuffix("_file")
        raise ConfigError(
            f"{path}: names a file; give {other}: {text} instead; if there is no setting {other}, write the secret to a file"
        )
    return SecretReference(match[1].lower(), match[2].lower(), match[3] and match[3].lower())


def _named(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of groups in which a reference stands for a name."""
    match value:
        case dict():
            if any(str(name)[: len(REFERENCE)].lower() == REFERENCE for name in value):
                yield path
            for name, inner in value.items():
                yield from _named(inner, _below(path, name))
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from _named(inner, _below(path, index))
        case _:
            pass


def _found(value: Any, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case str() if value[: len(REFERENCE)].lower() == REFERENCE:
            yield path, value
        case dict():
            for name, inner in value.items():
                yield from _found(inner, _below(path, name))
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from _found(inner, _below(path, index))
        case _:
            pass


def _replaced(value: Any, secrets: Mapping[str, str]) -> Any:
    match value:
        case str():
            return secrets.get(value, value)
        case dict():
            return {name: _replaced(inner, secrets) for name, inner in value.items()}
        case list() | tuple():
            return [_replaced(inner, secrets) for inner in value]
        case _:
            return value


def _below(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)
