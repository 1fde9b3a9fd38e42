"""The ``etcd`` sink."""

from services.sinks.frame.kind import Kind, Promise

KIND = Kind(
    description="one etcd key per row",
    sink="services.sinks.kinds.etcd.sink:EtcdSink",
    settings="services.sinks.kinds.etcd.settings:EtcdSettings",
    promises=(Promise.EFFECTIVELY_ONCE, Promise.AT_LEAST_ONCE),
    extra="etcd",
    library="urllib3",
    example="""
hosts: ["https://etcd-0:2379", "https://etcd-1:2379", "https://etcd-2:2379"]
username: flows
password_file: /run/secrets/etcd
where: action = 'deny'
ttl_seconds: 86400
""",
)
