"""Events, settings, the Kafka layer, blob storage, the flow schema, and what every process has."""
