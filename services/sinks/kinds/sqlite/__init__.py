"""The ``sqlite`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="rows of a table in an SQLite file",
    sink="services.sinks.kinds.sqlite.sink:SqliteSink",
    settings="services.sinks.kinds.sqlite.sink:SqliteSettings",
    promises=(Promise.EFFECTIVELY_ONCE,),
    example="""
file: /data/flows.db
where: "action = 'deny'"
retention_days: 30
""",
)
