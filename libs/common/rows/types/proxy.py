"""Proxy logs: one row is one HTTP request that passed a proxy."""

from __future__ import annotations

from typing import Final

from libs.common.rows.row_type import WORD, Column, RowType
from libs.common.rows.types.http import EXAMPLE_REQUEST
from libs.common.rows.types.log_columns import NOT_STATED, POSITION, REQUEST, REST, SOURCE, TIMES, TRACE

PROXY: Final = RowType(
    name="proxy",
    version=1,
    description=(
        "One row is one HTTP request from the log of a proxy: a line of a stream of proxy logs that names its server or the "
        "state of the cache. It has the columns of [http](http.md), and `cache_status`."
    ),
    columns=(
        *TIMES,
        *REQUEST,
        Column("cache_status", WORD, "what the cache did: `hit`, `miss`, ...", null_means=NOT_STATED),
        *TRACE,
        *SOURCE,
        *REST,
    ),
    topic="proxy",
    time="time",
    position=POSITION,
    example={
        **EXAMPLE_REQUEST,
        "referer": "https://www.shop.example/cart",
        "server_address": "www.shop.example",
        "cache_status": "miss",
        "service": "apache-proxy",
        "pod": "apache2-igc-674b9bdb88-vm775",
        "container": "proxy",
        "blob": "cp2.P1/logs/kubernetes/20260501.apache2-igc-674b9bdb88-vm775_default_proxy-931d71bdaa7b.gz",
    },
)
