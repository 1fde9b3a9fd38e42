"""``python -m libs.local [NAME...]``: fetch in advance what local servers need."""

from __future__ import annotations

import sys
from typing import Final

from libs.common.security.redaction import redact
from libs.common.security.visible import visible
from libs.local.azurite import LocalAzurite
from libs.local.clickhouse import LocalClickHouse
from libs.local.errors import ServerMissing
from libs.local.etcd import LocalEtcd
from libs.local.fluent import LocalFluent
from libs.local.influxdb import LocalInfluxDB
from libs.local.kafka import LocalKafka
from libs.local.mosquitto import LocalMosquitto
from libs.local.opensearch import LocalOpenSearch
from libs.local.otelcol import LocalCollector
from libs.local.postgres import LocalPostgres
from libs.local.process import LocalServer
from libs.local.rabbitmq import LocalRabbitMq
from libs.local.redis import LocalRedis
from libs.local.snowflake import LocalSnowflake
from libs.local.victoria_metrics import LocalVictoriaMetrics

SERVERS: Final[tuple[type[LocalServer], ...]] = (
    LocalKafka,
    LocalAzurite,
    LocalRedis,
    LocalFluent,
    LocalInfluxDB,
    LocalVictoriaMetrics,
    LocalOpenSearch,
    LocalClickHouse,
    LocalMosquitto,
    LocalRabbitMq,
    LocalEtcd,
    LocalPostgres,
    LocalSnowflake,
    LocalCollector,
)


def main(names: list[str]) -> int:
    """Install the named servers, or all of them; report everything that is missing and return the exit code."""
    known = {server.name: server for server in SERVERS}
    if unknown := [name for name in names if name not in known]:
        print(visible(f"blobtide: unknown server: {', '.join(unknown)}; known servers are {', '.join(known)}"), file=sys.stderr)  # noqa: T201
        return 2
    code = 0
    for name in names or known:
        try:
            known[name].install()
        except ServerMissing as missing:
            print(visible(redact(f"blobtide: {name}: {missing}")), file=sys.stderr)  # noqa: T201
            code = missing.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
