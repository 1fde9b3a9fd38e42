"""Rows as Kafka records, for the kinds of destinations that speak Kafka's protocol."""
