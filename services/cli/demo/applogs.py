"""Application logs of a fleet of pods."""

from __future__ import annotations

from datetime import datetime

from libs.demo.applogs.appends import Appends, Directory
from libs.demo.applogs.fleet import Fleet
from libs.demo.applogs.spec import LogSpec
from libs.demo.applogs.truth import LOG_TRUTH_SCHEMA
from services.cli.demo.asked import ALIAS, Asked, account_of
from services.cli.demo.playing import Plan, open_account, play


def generate_applogs(asked: Asked, start: datetime, minutes: int | None) -> None:
    """Write them to the destination."""
    if asked.directory is not None:
        directory = Directory(asked.directory)
        play(asked, _plan(_spec(asked, ALIAS, start, minutes)), lambda: Appends(directory))
        return
    account, alias = account_of(asked)
    spec = _spec(asked, alias, start, minutes)
    play(asked, _plan(spec), lambda: Appends(open_account(account, alias, [spec.container])))


def _spec(asked: Asked, alias: str, start: datetime, minutes: int | None) -> LogSpec:
    return LogSpec(
        seed=asked.seed,
        pods=asked.pods,
        lines_per_minute=asked.lines_per_minute,
        start=start,
        minutes=minutes,
        account=alias,
    )


def _plan(spec: LogSpec) -> Plan:
    return Plan(Fleet(spec).appends(), "lines", LOG_TRUTH_SCHEMA, spec.first_minute, spec.minutes)
