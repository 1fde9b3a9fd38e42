"""Real servers on this machine, for `blobtide up` and the tests.

They are Kafka, Azurite, Redis, OpenSearch, ClickHouse, Mosquitto, RabbitMQ, etcd, PostgreSQL and, on DuckDB, Snowflake. Each
listens on free ports of 127.0.0.1, keeps its data in a directory chosen by the caller, and never outlives the process that
started it. What a server needs is fetched once into a cache directory; `ServerMissing` names anything that cannot be fetched.
"""
