"""Local servers: they answer, come back on the same port with their data, and never outlive their parent."""

from __future__ import annotations

import pytest
from azure.storage.blob import BlobServiceClient
from confluent_kafka.admin import AdminClient

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from libs.local.redis import LocalRedis


@pytest.mark.kafka
def test_kafka_comes_back_with_its_topics(kafka: LocalKafka, kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """A killed Kafka is back on the same port, with its topics."""
    kafka.kill()
    kafka.start()
    found = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers}).list_topics(timeout=30).topics
    assert {topic: len(found[topic].partitions) for topic in topics.model_dump().values()} == dict.fromkeys(
        topics.model_dump().values(), 4
    )


@pytest.mark.azurite
def test_azurite_comes_back_with_its_blobs(azurite: LocalAzurite, container: str) -> None:
    """A stopped Azurite is back on the same port, with the blobs written just before."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        blob = service.get_blob_client(container, "a")
        blob.upload_blob(b"content")
        azurite.stop()
        azurite.start()
        assert blob.download_blob().readall() == b"content"


@pytest.mark.redis
def test_redis_comes_back_with_its_keys(redis_server: LocalRedis) -> None:
    """A killed Redis is back on the same port, with the key written just before."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.set("kept", "value")
        redis_server.kill()
        redis_server.start()
        assert client.get("kept") == b"value"
        client.delete("kept")
