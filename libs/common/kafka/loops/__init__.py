"""The main loops of services that read from Kafka, and their shared parts."""
