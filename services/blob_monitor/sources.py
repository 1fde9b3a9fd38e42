"""The configured sources as values: territories, the scopes in them, and the stream and labels of each blob name.

A *scope* is the unit of work that one monitor owns at a time: in the hourly layout one resource directory (the part of the
name directly above ``y=YYYY``), otherwise the configured prefix, or the names in it that one selector takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import Stream
from libs.common.messages.labels import Labels
from libs.common.settings.storage import Environment, NameLayout, Source, Subscriptions, account_alias
from services.blob_monitor.names import NameRule, Tail, rule_of_source, rules_of_selectors

_YEAR = re.compile(r"(?:^|/)(?=y=\d{4}/)")
_YEAR_HERE = re.compile(r"y=\d{4}/")


@dataclass(frozen=True)
class Territory:
    """A prefix of one container, or the names under it that one selector takes.

    The sources that share a prefix are distinguished by their globs; the first to accept a name wins. Each selector is a
    territory of its own; here too, the first to take a name wins.
    """

    subscription: str
    environment: str
    container: str
    prefix: str
    layout: NameLayout
    rules: tuple[NameRule, ...]  # of a selector: one
    rivals: tuple[NameRule, ...] = ()  # of earlier selectors

    @cached_property
    def alias(self) -> str:
        """Alias of the storage account."""
        return account_alias(self.subscription, self.environment)

    @cached_property
    def selector(self) -> str:
        """Name of the selector; empty if there is none."""
        return self.rules[0].selector

    @cached_property
    def tail(self) -> Tail | None:
        """What the selector wants to follow the prefix or the day."""
        return self.rules[0].tail

    @cached_property
    def key(self) -> str:
        """Key of the territory, in the form of scope keys."""
        suffix = f"#{self.selector}" if self.selector else ""
        return f"{self.alias}/{self.container}/{self.prefix}{suffix}"

    @cached_property
    def place(self) -> Labels:
        """The labels that all blobs of the environment have, if they have any."""
        return {"subscription": self.subscription, "environment": self.environment}

    def rule_of(self, name: str) -> NameRule | None:
        """Return the rule that takes a name under the prefix; None if it belongs to another selector or to no source."""
        for rule in self.rules:
            if rule.accepts(name):
                return None if self.rivals and any(rival.accepts(name) for rival in self.rivals) else rule
        return None

    def stream_of(self, name: str) -> Stream | None:
        """Return the stream of a blob; None if no source accepts it."""
        rule = self.rule_of(name)
        return rule.stream if rule else None

    def scope_prefix(self, name: str) -> str | None:
        """Return the prefix of the scope that contains a blob's name; None if it is outside."""
        if not name.startswith(self.prefix):
            return None
        if self.tail is not None and (not self.tail.fits(name) or self.rule_of(name) is None):
            return None
        if self.layout is not NameLayout.HOURLY:
            return self.prefix
        year = _YEAR.search(name, max(len(self.prefix) - 1, 0))
        return name[: year.end()] if year else None

    def listed_prefix(self, prefix: str) -> str:
        """Return the prefix to list of what is under `prefix`, the territory's own or that of an hour or a day in it."""
        return prefix if self.tail is None or self._is_to_divide(prefix) else prefix + self.tail.text

    def day_delimiter(self, prefix: str) -> str:
        """Return the character that ends the days under `prefix`, if they must be found and listed one by one; else nothing.

        A selector wants a part of each day, and there is no prefix of all these parts that excludes what nobody wants.
        """
        return self.tail.text[:1] if self.tail is not None and self._is_to_divide(prefix) else ""

    def _is_to_divide(self, prefix: str) -> bool:
        return self.tail is not None and self.tail.day_start is not None and prefix == self.prefix


@dataclass(frozen=True)
class Scope:
    """A prefix in a territory that is listed as a unit."""

    territory: Territory
    prefix: str

    @cached_property
    def key(self) -> str:
        """``alias/container/prefix``, and the selector; its partition determines which monitor owns the scope."""
        if self.territory.selector:
            return self.territory.key
        return f"{self.territory.alias}/{self.territory.container}/{self.prefix}"

    def holds(self, name: str) -> bool:
        """Return whether a listed blob belongs to this scope, and not to one inside it."""
        if self.territory.layout is not NameLayout.HOURLY:
            return name.startswith(self.prefix)
        return name.startswith(self.prefix) and _YEAR_HERE.match(name, len(self.prefix)) is not None

    def blob(self, name: str) -> BlobId:
        """Return the id of a blob in this scope."""
        return BlobId(self.territory.alias, self.territory.container, name)


class Atlas:
    """Finds the scope of any blob. Territories do not overlap. Used from one thread."""

    def __init__(self, territories: Iterable[Territory]) -> None:
        self._by_container: dict[str, list[Territory]] = {}  # by alias/container
        for territory in territories:
            self._by_container.setdefault(f"{territory.alias}/{territory.container}", []).append(territory)
        self._scopes: dict[tuple[str, str], Scope] = {}

    def find(self, key: str) -> tuple[Scope, str] | None:
        """Return scope and name of the blob with the id `key`; None if the configuration does not, or no longer, cover it."""
        slash = key.find("/", key.find("/") + 1)
        name = key[slash + 1 :]
        for territory in self._by_container.get(key[:slash], ()) if name else ():
            prefix = territory.scope_prefix(name)
            if prefix is not None:
                place = territory.key, prefix
                scope = self._scopes.get(place)
                if scope is None:
                    scope = self._scopes[place] = Scope(territory, prefix)
                return scope, name
        return None


def territories(subscriptions: Subscriptions) -> tuple[Territory, ...]:
    """Return the territories of all enabled environments.

    Raises:
        ConfigError: a glob is malformed, or prefixes of one container overlap.
    """
    return tuple(
        territory
        for subscription, settings in subscriptions.items()
        for environment, details in settings.environments.items()
        if details.enabled
        for territory in _of_environment(subscription, environment, details)
    )


def _of_environment(subscription: str, environment: str, details: Environment) -> Iterator[Territory]:
    ordered = sorted(details.sources, key=lambda source: (source.container, source.prefix))
    alias = account_alias(subscription, environment)
    _refuse_overlaps(alias, ordered)
    for (container, prefix), group in groupby(ordered, key=lambda source: (source.container, source.prefix)):
        sources = list(group)
        for rules, rivals in _divided(f"{alias}, container {container}", sources):
            yield Territory(subscription, environment, container, prefix, sources[0].times, rules, rivals)


def _divided(place: str, sources: Sequence[Source]) -> Iterator[tuple[tuple[NameRule, ...], tuple[NameRule, ...]]]:
    """Yield the rules of each territory under one prefix, and the rules that win over them."""
    if not any(source.selectors for source in sources):
        yield tuple(map(rule_of_source, sources)), ()
        return
    if not all(source.selectors for source in sources):
        raise ConfigError(f"{place}: of the sources with prefix {sources[0].prefix!r}, give all selectors or none")
    rules = [rule for source in sources for rule in rules_of_selectors(source)]
    for index, rule in enumerate(rules):
        if rule.selector in {other.selector for other in rules[:index]}:
            raise ConfigError(f"{place}: two selectors with prefix {sources[0].prefix!r} are named {rule.selector}")
        yield (rule,), tuple(other for other in rules[:index] if other.may_take_from(rule))


def _refuse_overlaps(alias: str, ordered: Sequence[Source]) -> None:
    for source in ordered:
        if source.times is NameLayout.HOURLY and _YEAR.search(source.prefix):
            raise ConfigError(f"{alias}: prefix {source.prefix!r} extends into the hours; end it above y=, or use layout flat")
    for first, second in pairwise(ordered):
        if first.container != second.container or not second.prefix.startswith(first.prefix):
            continue
        if first.prefix != second.prefix:
            raise ConfigError(
                f"{alias}, container {first.container}: prefix {second.prefix!r} lies inside {first.prefix!r}; "
                "give both sources the shorter prefix and distinguish them by include and exclude"
            )
        if first.times is not second.times:
            raise ConfigError(
                f"{alias}, container {first.container}: sources with prefix {first.prefix!r} have different layouts"
            )
