"""The Kafka layer: the only code that imports the Kafka client."""
