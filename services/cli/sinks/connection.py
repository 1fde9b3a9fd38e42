"""``blobtide test-connection``: open sinks and ask sources the way their services do, and say what happened."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from libs.common.errors import BlobtideError, ConfigError
from libs.common.settings import Settings
from libs.common.settings.loader import raw_settings
from services.cli.config.checks import ask_source, check_requests
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.sinks.key_vaults import NAME as KEY_VAULT
from services.cli.sinks.key_vaults import tried_secrets
from services.cli.suggestions import configured_sinks
from services.cli.terminal import say
from services.sinks.frame.registry import configured_sink

AZURE: Final = "azure"
COLLECTOR: Final = (AZURE, "queue")
"""What the collector asks, unless a sink or a source has this name."""


@click.command(epilog=examples("blobtide test-connection search --config blobtide.yaml", "blobtide test-connection azure"))
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=configured_sinks)
@config_option
def command(names: tuple[str, ...], config: Path | None) -> None:
    """Connect to the destination of each sink NAME, or of all sinks, the way its service does, and exit; write no rows.

    This reads the secrets, resolves, connects, signs in, and checks what the sink needs there, such as a table or an index
    template. NAME may also be a source of the recorder: it is asked once, and its answer is not recorded; azure: the
    collector's identity signs in, and lists the subscriptions it sees; queue: the collector's queue of requests is looked
    into, and nothing is received; or keyvault: each secret to which the settings refer (kv://VAULT/NAME) is read, and its value
    not shown. Run it on the same machine and as the same user as the service. The exit code is that of the first failure.
    """
    failures, rest = _first_vaults(names, config)
    if rest or not names:
        failures += _of_settings(rest, load_logged(config, "test-connection"))
    if failures:
        raise SystemExit(failures[0].exit_code)


def _first_vaults(names: tuple[str, ...], config: Path | None) -> tuple[list[BlobtideError], list[str]]:
    """Try key vaults if they are named, before settings that need them are loaded; return failures and the other names."""
    if KEY_VAULT not in names or KEY_VAULT in _configured(config):
        return [], list(names)
    return tried_secrets(config), [name for name in names if name != KEY_VAULT]


def _configured(config: Path | None) -> set[str]:
    """Return the names of sinks and sources, as far as the settings are well-formed."""
    values = raw_settings(config)
    sinks, recorder = values.get("sinks"), values.get("recorder")
    sources = recorder.get("sources") if isinstance(recorder, dict) else None
    named = [source.get("name") for source in sources or () if isinstance(source, dict)] if isinstance(sources, list) else []
    return {str(name) for name in (*(sinks if isinstance(sinks, dict) else ()), *named)}


def _of_settings(names: list[str], settings: Settings) -> list[BlobtideError]:
    chosen = names or (*settings.sinks, *(source.name for source in settings.recorder.sources))
    if not chosen:
        raise ConfigError("no sinks are configured: name one under `sinks` in the settings, see `blobtide sinks`")
    return [error for name in chosen if (error := _tried(settings, name)) is not None]


def _tried(settings: Settings, name: str) -> BlobtideError | None:
    began = time.monotonic()
    try:
        remark = _asked(settings, name)
    except BlobtideError as error:
        say(f"!!  {name}: {error}", err=True)
        return error
    say(f"ok  {name}: connected in {(time.monotonic() - began) * 1_000:,.0f} ms{remark}")
    return None


def _asked(settings: Settings, name: str) -> str:
    """Ask everything that has this name, and return a remark."""
    source = next((source for source in settings.recorder.sources if source.name == name), None)
    if source is not None:
        ask_source(source)
    if source is None and name in COLLECTOR and name not in settings.sinks:
        return f"; {remark}" if (remark := (_ask_azure if name == AZURE else check_requests)(settings)) else ""
    if source is None or name in settings.sinks:
        _open_sink(settings, name)
    return ""


def _ask_azure(settings: Settings) -> str:
    from libs.common.azure.arm.opening import check_arm

    seen = check_arm(settings.collector)
    return f"the identity sees {seen} subscription{'s' if seen > 1 else ''}"


def _open_sink(settings: Settings, name: str) -> None:
    sink = configured_sink(settings.sinks, name, settings).sink
    sink.read_files()
    try:
        sink.open()
    finally:
        sink.close()
