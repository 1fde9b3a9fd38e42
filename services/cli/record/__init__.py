"""``blobtide record``: what an HTTP source answers, in zip files, without Kafka."""
