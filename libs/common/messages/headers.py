"""Headers of Kafka messages."""

Headers = tuple[tuple[str, bytes], ...]
