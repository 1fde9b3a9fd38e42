"""The ``archive`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="zip files of NDJSON, one for each source and interval",
    sink="services.sinks.kinds.archive.sink:ArchiveSink",
    settings="services.sinks.kinds.archive.sink:ArchiveSettings",
    promises=(Promise.EFFECTIVELY_ONCE,),
    example="""
directory: /var/lib/blobtide/archive
rotate_seconds: 300
""",
)
