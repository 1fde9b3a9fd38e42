"""The ``snowflake`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="rows of a Snowflake table",
    sink="services.sinks.kinds.snowflake.sink:SnowflakeSink",
    settings="services.sinks.kinds.snowflake.settings:SnowflakeSettings",
    promises=(Promise.EFFECTIVELY_ONCE,),
    extra="snowflake",
    library="snowflake.connector",
    example="""
account: EXAMPLE-NETWORK
username: BLOBTIDE
private_key_file: /run/secrets/snowflake.p8
role: BLOBTIDE
warehouse: BLOBTIDE
database: LOGS
table: NETWORK.FLOWS
retention_days: 365
""",
)
