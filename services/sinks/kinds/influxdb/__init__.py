"""The ``influxdb`` sink, for InfluxDB 1, 2 and 3 and servers that take its line protocol."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="points of a measurement in InfluxDB 1, 2 or 3",
    sink="services.sinks.kinds.influxdb.sink:InfluxSink",
    settings="services.sinks.kinds.influxdb.settings:InfluxSettings",
    promises=(Promise.EFFECTIVELY_ONCE, Promise.AT_LEAST_ONCE),
    extra="influxdb",
    library="urllib3",
    example="""
hosts: ["https://influxdb:8086"]
api: v2
org: network
bucket: flows
token_file: /run/secrets/influxdb
""",
)
