"""The ``delta`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="a Delta table, in a directory or in Azure storage",
    sink="services.sinks.kinds.delta.sink:DeltaSink",
    settings="services.sinks.kinds.delta.settings:DeltaSettings",
    promises=(Promise.EFFECTIVELY_ONCE,),
    extra="delta",
    library="deltalake",
    example="""
table: az://lake/network/flows
storage: {account_name: examplelake}
directory: /data/delta
commit_seconds: 300
""",
)
