"""The ``clickhouse`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="rows of a ClickHouse table",
    sink="services.sinks.kinds.clickhouse.sink:ClickHouseSink",
    settings="services.sinks.kinds.clickhouse.sink:ClickHouseSettings",
    promises=(Promise.EFFECTIVELY_ONCE,),
    extra="clickhouse",
    library="urllib3",
    example="""
hosts: ["https://clickhouse:8443"]
database: logs
username: blobtide
password_file: /run/secrets/clickhouse
""",
)
