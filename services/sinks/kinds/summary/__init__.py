"""The ``summary`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="traffic per socket and minute, as a growing table and as files",
    sink="services.sinks.kinds.summary.sink:SummarySink",
    settings="services.sinks.kinds.summary.sink:SummarySettings",
    promises=(Promise.EFFECTIVELY_ONCE,),
    example="""
directory: /var/lib/blobtide/summary
print_seconds: 0
""",
)
