"""Applying topics while somebody else does."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from libs.common.errors import BlobtideError
from libs.common.kafka.topics import admin
from libs.common.kafka.topics.admin import ChangeKind, apply_topics, load_topic_specs
from libs.common.settings.kafka import KafkaSettings, TopicSettings


class _Admin:
    """Has no topic at first, and refuses to create one with an error; then it is there all the same."""

    def __init__(self, code: int) -> None:
        self._error = KafkaException(KafkaError(code, "refused"))
        self._present: dict[str, Any] = {}

    def list_topics(self, *, timeout: float) -> Any:
        del timeout
        return SimpleNamespace(topics=dict(self._present))

    def create_topics(self, topics: list[Any], **_: Any) -> dict[str, Future[None]]:
        answer: Future[None] = Future()
        answer.set_exception(self._error)
        self._present[topics[0].topic] = SimpleNamespace(partitions={0: SimpleNamespace(leader=1)})
        return {topics[0].topic: answer}


def _apply(code: int, monkeypatch: pytest.MonkeyPatch) -> list[ChangeKind]:
    made = _Admin(code)
    monkeypatch.setattr(admin, "make_admin", lambda _: made)
    monkeypatch.setattr(admin, "check_reachable", lambda *_: None)
    return [change.kind for change in apply_topics(KafkaSettings(), TopicSettings(), load_topic_specs()[:1])]


def test_a_topic_that_somebody_else_has_just_created_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who apply at once both succeed; any other refusal is an error."""
    assert _apply(KafkaError.TOPIC_ALREADY_EXISTS, monkeypatch) == [ChangeKind.CREATE]
    with pytest.raises(BlobtideError, match="create of topic"):
        _apply(KafkaError.POLICY_VIOLATION, monkeypatch)
