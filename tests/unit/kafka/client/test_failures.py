"""The classification of client errors."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from libs.common.errors import BlobtideError, ServerUnreachable
from libs.common.kafka.client.failures import (
    Remedy,
    classify,
    error_of,
    is_fenced,
    is_moved,
    is_passing,
    is_refusal,
    translated,
)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (KafkaError(KafkaError._FENCED, fatal=True), Remedy.FATAL),
        (KafkaError(KafkaError._FENCED, fatal=True, retriable=True, txn_requires_abort=True), Remedy.FATAL),
        (KafkaError(KafkaError.TRANSACTION_ABORTABLE, txn_requires_abort=True), Remedy.ABORT),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, retriable=True, txn_requires_abort=True), Remedy.ABORT),
        (KafkaError(KafkaError._TIMED_OUT, retriable=True), Remedy.RETRIABLE),
        (KafkaError(KafkaError._CONFLICT, retriable=True), Remedy.RETRIABLE),
        (KafkaError(KafkaError._STATE), Remedy.FATAL),
        (KafkaError(KafkaError.UNKNOWN), Remedy.FATAL),
    ],
)
def test_fatal_is_tested_before_abort_and_abort_before_retriable(error: KafkaError, failure: Remedy) -> None:
    """The flags are tested in the order fatal, abort, retriable; an error without any flag is fatal."""
    assert classify(error) is failure


def test_errors_of_one_record_are_told_from_errors_of_the_world() -> None:
    """Size and validity belong to a record, fencing to the producer, movement to the group, transport to the world."""
    assert is_refusal(KafkaError(KafkaError.INVALID_RECORD))
    assert not is_refusal(KafkaError(KafkaError._TIMED_OUT))
    assert is_fenced(KafkaError(KafkaError._FENCED))
    assert is_moved(KafkaError(KafkaError.ILLEGAL_GENERATION))
    assert is_moved(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
    assert is_passing(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert is_passing(KafkaError(KafkaError._NOENT, "Failed to query partition leaders: No leaders found"))
    assert not is_passing(KafkaError(KafkaError._TRANSPORT, fatal=True))
    assert not is_passing(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))


# The column "retriable" of the error codes in Kafka's protocol guide, as of 4.2, without the corrupt message (2).
RETRIABLE_FOR_THE_PROTOCOL = (
    *(3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56),
    *(70, 71, 72, 74, 75, 78, 80, 83, 88, 89, 100, 103),
)


@pytest.mark.parametrize("code", RETRIABLE_FOR_THE_PROTOCOL, ids=lambda code: KafkaError(code).name())
def test_what_the_protocol_calls_retriable_ends_no_process(code: int) -> None:
    """The client hands broker errors on without its own flag: by their numbers they are known to pass."""
    error = KafkaError(code)
    assert not error.retriable()
    assert is_passing(error)
    assert isinstance(translated(error, "x"), ServerUnreachable)


def test_translation_says_what_was_done_and_what_to_check() -> None:
    """Denied, unreachable and other errors become one line each, of the class the command line exits with."""
    denied = translated(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "no"), "joining g")
    assert "denied joining g" in str(denied)
    assert "ACL" in str(denied)
    assert isinstance(translated(KafkaError(KafkaError._TRANSPORT, "gone"), "x"), ServerUnreachable)
    assert type(translated(KafkaError(KafkaError.UNKNOWN, "?"), "x")) is BlobtideError


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (KafkaError._TRANSPORT, "Kafka did not respond while reading t: "),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "Kafka did not know a topic or partition while reading t: "),
        (KafkaError._UNKNOWN_PARTITION, "Kafka did not know a topic or partition while reading t: "),
        (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "Kafka was not ready while reading t: "),
    ],
)
def test_what_passes_is_said_as_it_is(code: int, said: str) -> None:
    """Only where nobody answered does a line say so: an answer that will change is another problem, and a topic a third."""
    assert str(translated(KafkaError(code), "reading t")).startswith(said)


def test_an_exception_without_a_client_error_is_understood() -> None:
    """A client exception that carries only text is a failure without flags, thus fatal."""
    assert classify(error_of(KafkaException("text"))) is Remedy.FATAL
