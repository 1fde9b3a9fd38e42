"""The loops of services that read from Kafka, and what they share."""
