"""The ``postgres`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="rows of a PostgreSQL or Timescale table",
    sink="services.sinks.kinds.postgres.sink:PostgresSink",
    settings="services.sinks.kinds.postgres.settings:PostgresSettings",
    promises=(Promise.EFFECTIVELY_ONCE,),
    extra="postgres",
    library="psycopg",
    example="""
hosts: ["db-1.example:5432", "db-2.example:5432"]
database: flows
username: blobtide
password_file: /run/secrets/postgres
layout: daily
retention_days: 90
""",
)
