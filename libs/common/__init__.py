"""Events, settings, the Kafka layer, blob storage, rows, and what every process has."""
