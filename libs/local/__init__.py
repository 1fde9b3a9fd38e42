"""Real servers on this machine, for `blobtide up` and the tests: Kafka, Azurite, Redis, OpenSearch, ClickHouse, Mosquitto.

Each listens on 127.0.0.1 and free ports, keeps its data in a directory that the caller gives, and never outlives the process
that started it. What a server needs is fetched once into a cache directory; what cannot be fetched is named in `ServerMissing`.
"""
