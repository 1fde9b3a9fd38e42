"""The ``file`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="Parquet, NDJSON or CSV files in a directory",
    sink="services.sinks.kinds.file.sink:FileSink",
    settings="services.sinks.kinds.file.sink:FileSettings",
    promises=(Promise.EFFECTIVELY_ONCE,),
    example="""
directory: /var/lib/blobtide/flows
format: parquet
layout: hive # folders by day and hour, which DuckDB, Spark and Synapse skip by
""",
)
