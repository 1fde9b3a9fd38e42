"""Flow logs of an estate of network interfaces."""

from __future__ import annotations

from datetime import datetime

from libs.demo.estate import Estate
from libs.demo.inventory import container_of
from libs.demo.player import BlockLists
from libs.demo.spec import EstateSpec, LogKind, Style
from libs.demo.truth import TRUTH_SCHEMA
from services.cli.demo.asked import Asked, account_of
from services.cli.demo.playing import Plan, open_account, play


def generate_flows(asked: Asked, start: datetime, minutes: int | None) -> None:
    """Write them to the destination."""
    account, alias = account_of(asked)
    spec = EstateSpec(
        seed=asked.seed,
        nics=asked.nics,
        tuples_per_minute=asked.tuples_per_minute,
        kinds=tuple(LogKind) if asked.kind == "mixed" else (LogKind(asked.kind),),
        start=start,
        minutes=minutes,
        upgrade_after=asked.upgrade_after,
        style=Style.PRETTY if asked.pretty else Style.COMPACT,
        account=alias,
    )
    plan = Plan(Estate(spec).commits(), "tuples", TRUTH_SCHEMA, spec.first_minute, minutes)
    containers = sorted({container_of(kind) for kind in spec.kinds})
    play(asked, plan, lambda: BlockLists(open_account(account, alias, containers)))
