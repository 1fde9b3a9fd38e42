"""The meaning of client errors: one classification for everything that calls the Kafka client.

librdkafka has about 250 error codes, which call for one of three remedies, tested in this order: a *fatal* error ends the
client, an *abort* error ends the transaction, and after a *retriable* error the same call is repeated with the same arguments.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Protocol

from confluent_kafka import KafkaError, KafkaException

from libs.common.errors import BlobtideError, ServerUnreachable


class Remedy(StrEnum):
    """What to do after a client error."""

    RETRIABLE = "retriable"  # repeat the call
    ABORT = "abort"  # abort, rewind, use a new producer
    FATAL = "fatal"  # drop the client without another call


class OutputRefused(BlobtideError):
    """A record of the transaction can never be written; the transaction was aborted.

    `outputs` are the indexes of such records, as far as Kafka says which they are.
    """

    def __init__(self, reason: str, outputs: frozenset[int] = frozenset()) -> None:
        super().__init__(reason)
        self.outputs = outputs


class OutputTooLarge(OutputRefused):
    """Records for `topics` exceed their size limits; the same data in smaller records can be written."""

    def __init__(self, reason: str, topics: frozenset[str]) -> None:
        super().__init__(reason)
        self.topics = topics


_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})  # noqa: SLF001
_NOT_IN_GROUP = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID})
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
_REFUSED = _TOO_LARGE | {KafkaError.INVALID_RECORD, KafkaError.POLICY_VIOLATION}
_DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
# Errors of brokers that move, start or are overloaded: those that Kafka's protocol guide calls retriable, except the corrupt
# message, which a read from a damaged disk would repeat forever. The client does not flag all of them as retriable.
_RETRIABLE_FOR_THE_PROTOCOL = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # after a broker's start the metadata may be incomplete; start-up checks topics
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_CONTROLLER,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.FETCH_SESSION_ID_NOT_FOUND,
        KafkaError.INVALID_FETCH_SESSION_EPOCH,
        KafkaError.LISTENER_NOT_FOUND,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,  # a broker that has just started is behind the metadata of its clients
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
        KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.INCONSISTENT_TOPIC_ID,
    }
)
# In addition, those after which a client asks another broker or rejoins, and its own: a lost connection, a pending lookup. For
# a consumer, which continues by itself, they are informational.
_PASSING = _RETRIABLE_FOR_THE_PROTOCOL | {
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.REBOOTSTRAP_REQUIRED,
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - credentials are changed while we run; at start it is an error
    KafkaError._SSL,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
    KafkaError._WAIT_CACHE,  # noqa: SLF001
    KafkaError._OUTDATED,  # noqa: SLF001
    KafkaError._RETRY,  # noqa: SLF001
    KafkaError._UNKNOWN_BROKER,  # noqa: SLF001
    KafkaError._DESTROY_BROKER,  # noqa: SLF001 - the metadata names another broker now
    KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - the lost partitions follow as an event
    KafkaError._PARTITION_EOF,  # noqa: SLF001
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError._NOENT,  # noqa: SLF001 - no partition that was asked for has a leader now
}
_UNKNOWN = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
# A commit outside a transaction that fails with these was not made; the records are redelivered, perhaps to another process.
_MOVED = _NOT_IN_GROUP | {KafkaError.REBALANCE_IN_PROGRESS, KafkaError._STATE, KafkaError._ASSIGNMENT_LOST}  # noqa: SLF001


# Raised by calls that serve callbacks. A fatal error together with an acknowledgement makes the client raise SystemError, with
# the KafkaException as its cause.
RAISED_WHILE_SERVING: Final = (KafkaException, SystemError)


def error_of(exception: KafkaException | SystemError) -> KafkaError:
    """Return the client error inside `exception`."""
    cause = exception.__cause__ if isinstance(exception, SystemError) else exception
    error = cause.args[0] if cause is not None and cause.args else None
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(exception))  # noqa: SLF001


class PartitionAnswer(Protocol):
    """The part of a response that concerns one topic or partition."""

    @property
    def error(self) -> KafkaError | None:
        """The error, if there is no result."""


def raise_for(answer: PartitionAnswer) -> None:
    """Raise KafkaException if a request succeeded, but not for this topic or partition."""
    if answer.error is not None:
        raise KafkaException(answer.error)


def classify(error: KafkaError) -> Remedy:
    """Return what to do after a transactional call failed with `error`; unknown errors are fatal."""
    if error.fatal():
        return Remedy.FATAL
    if error.txn_requires_abort():
        return Remedy.ABORT
    if error.retriable():
        return Remedy.RETRIABLE
    return Remedy.FATAL


def is_fenced(error: KafkaError) -> bool:
    """Return whether another producer has taken over the transactional id (or ours outlived its transaction timeout)."""
    return error.code() in _FENCED


def is_out_of_group(error: KafkaError) -> bool:
    """Return whether the consumer is no longer the member it thinks it is."""
    return error.code() in _NOT_IN_GROUP


def is_refusal(error: KafkaError) -> bool:
    """Return whether one record, not the world, is at fault: repeating cannot help."""
    return error.code() in _REFUSED


def is_too_large(error: KafkaError) -> bool:
    """Return whether a record, or several that were sent as one, exceed the size limit of the topic."""
    return error.code() in _TOO_LARGE


def is_other_record(error: KafkaError) -> bool:
    """Return whether a record was refused only because of another one in the same batch."""
    return error.code() == KafkaError._INVALID_DIFFERENT_RECORD  # noqa: SLF001


def may_be_of_another(error: KafkaError, key: bytes | None) -> bool:
    """Return whether a record may have been refused only because of another one in the same batch, which has no key.

    If a broker refuses several records of a batch, the client says which; if it refuses one, the client reports that error for
    all of them. What brokers refuse in this way is a record without a key, for a compacted topic.
    """
    return error.code() == KafkaError.INVALID_RECORD and key is not None


def is_passing(error: KafkaError) -> bool:
    """Return whether a consumer continues by itself after `error`."""
    return not error.fatal() and (error.code() in _PASSING or error.retriable())


def is_moved(error: KafkaError) -> bool:
    """Return whether a plain commit failed because its partitions are moving: they will be redelivered."""
    return error.code() in _MOVED


def is_denied(error: KafkaError) -> bool:
    """Return whether the broker responded that this user lacks a right."""
    return error.code() in _DENIED


def is_end(error: KafkaError) -> bool:
    """Return whether this is not an error, but the report that a partition was read to its end."""
    return error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001


def is_out_of_range(error: KafkaError) -> bool:
    """Return whether the requested position does not exist on the broker, or its records were replaced."""
    gone = (KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001
    return error.code() in gone


def outage(error: KafkaError) -> str:
    """Return what a passing `error` means: that nobody responds, or that somebody does but cannot do what was asked."""
    if error.code() in _UNKNOWN:
        return "Kafka did not know a topic or partition"
    if error.code() > 0:  # a broker's answer; the client's own codes are negative
        return "Kafka was not ready"
    return "Kafka did not respond"


def translated(error: KafkaError, doing: str) -> BlobtideError:
    """Return our exception for `error`: one line that says what was being done and what to check."""
    if is_denied(error):
        text = KafkaError(error.code()).str()  # the broker's own text may contain the whole request
        hint = "check the ACLs of this user (`blobtide acls print` lists what it needs)"
        return BlobtideError(f"Kafka denied {doing}: {text}; {hint}")
    text = error.str()
    if is_passing(error):
        return ServerUnreachable(f"{outage(error)} while {doing}: {text}")
    return BlobtideError(f"Kafka failed while {doing}: {text} ({error.name()})")
