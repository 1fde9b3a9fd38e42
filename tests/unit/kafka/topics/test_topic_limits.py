"""How large records may be: what topics say, what they refuse, and dead letters that must fit in any case."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.topic_limits import SMALLEST, TopicLimits
from libs.common.messages.dead_letters import DeadLetter, ErrorCode, stage_and_code
from libs.common.settings.kafka import KEY_AND_HEADERS_BYTES, KafkaSettings

OWN = KafkaSettings().message_max_bytes


class _Broker:
    """Tells the limits in `told`."""

    def __init__(self, **told: int) -> None:
        self.told = told

    def ask(self, topics: Collection[str]) -> Mapping[str, int]:
        return {topic: self.told[topic] for topic in topics if topic in self.told}


def limits_of(broker: _Broker, *topics: str, kafka: KafkaSettings | None = None) -> TopicLimits:
    """Return the limits of topics, read once."""
    limits = TopicLimits(kafka or KafkaSettings(), topics, broker.ask)
    limits.read()
    return limits


def test_the_smaller_of_the_topics_limit_and_our_own_counts() -> None:
    """Beside the value there is room for key and headers."""
    limits = limits_of(_Broker(small=100_000, large=50_000_000), "small", "large", "silent")
    rooms = [limits.room(topic) + KEY_AND_HEADERS_BYTES for topic in ("small", "large", "silent", "never asked of")]
    assert rooms == [100_000, OWN, OWN, OWN]


def test_our_own_limit_is_what_the_client_is_told() -> None:
    """An option for librdkafka that takes the place of a setting counts, and one that is no size is refused by name."""
    kafka = KafkaSettings(librdkafka={"message.max.bytes": "200000"})
    assert (
        limits_of(_Broker(t=1_000_000), "t", kafka=kafka).room("t") == kafka.value_max_bytes == 200_000 - KEY_AND_HEADERS_BYTES
    )
    for value in ("much", "1000", "-200000"):
        with pytest.raises(ValueError, match=r"kafka\.librdkafka\.message\.max\.bytes"):
            KafkaSettings(librdkafka={"message.max.bytes": value})


def test_several_records_sent_as_one_fit_in_every_topic() -> None:
    """The client's batches stay below the smallest limit, also where an option asks for larger ones."""
    limits = limits_of(_Broker(small=100_000), "small", "large")
    assert limits.config({})["batch.size"] == 100_000
    assert limits.config({"batch.size": "500000"})["batch.size"] == 100_000
    assert limits.config({"batch.size": "5000"})["batch.size"] == 5_000
    assert limits_of(_Broker(), "t").config({})["batch.size"] == 1_000_000


def test_after_a_refusal_the_topic_is_asked_again() -> None:
    """A limit that somebody has lowered is kept from then on; those of other topics stay."""
    broker = _Broker(a=1_000_000, b=1_000_000)
    limits = limits_of(broker, "a", "b")
    broker.told["a"] = 90_000
    limits.refused(["a"])
    assert (limits.room("a"), limits.room("b")) == (90_000 - KEY_AND_HEADERS_BYTES, 1_000_000 - KEY_AND_HEADERS_BYTES)


@pytest.mark.parametrize("told", [{}, {"t": 5_000_000}], ids=["not told", "told wrong"])
def test_a_limit_that_is_not_told_is_found_by_halving_and_ends(told: dict[str, int]) -> None:
    """Refusal after refusal makes records smaller; below what is of use the service ends with the topic and the setting."""
    limits = limits_of(_Broker(**told), "t")
    rooms = [limits.room("t")]

    def be_refused() -> None:
        for _ in range(20):
            limits.refused(["t"])
            rooms.append(limits.room("t"))

    with pytest.raises(ConfigError, match=r"topic t accepts .* max\.message\.bytes to 32768 or more"):
        be_refused()
    assert rooms == sorted(set(rooms), reverse=True)
    assert 4 < len(rooms) < 12


def test_a_limit_of_no_use_is_noticed_at_the_start() -> None:
    """The least that works is accepted, a byte less is not."""
    limits_of(_Broker(t=SMALLEST), "t")
    with pytest.raises(ConfigError, match=f"at most {SMALLEST - 1} bytes") as caught:
        limits_of(_Broker(t=SMALLEST - 1), "t")
    assert caught.value.exit_code == 2


def weight(record: Outbound) -> int:
    """Return the bytes of key, value and headers."""
    return len(record.value or b"") + len(record.key or b"") + sum(len(n) + len(v) for n, v in record.headers)


@given(
    data=st.integers(0, 300_000),
    key=st.none() | st.integers(0, 100_000),
    original=st.lists(st.integers(0, 60_000), max_size=5),
    limit=st.integers(SMALLEST, 200_000),
)
def test_a_dead_letter_always_fits_and_keeps_position_and_reason(
    data: int, key: int | None, original: list[int], limit: int
) -> None:
    """Whatever it came with, it is smaller than the limit, says where it stood and why, and how much is missing."""
    letter = DeadLetter(
        stage="parser",
        code=ErrorCode.BAD_MESSAGE,
        reason="r" * 400,
        data=b"d" * data,
        key=None if key is None else b"k" * key,
        blob="b" * 1_024,
        source={"topic": "t", "partition": "1", "offset": "2", "omitted-bytes": "5"},
        original=tuple((f"h{number}", b"v" * size) for number, size in enumerate(original)),
    )
    record = Outbound("errors", letter.data, letter.key, letter.headers())
    fitted = limits_of(_Broker(errors=limit), "errors").fitted(record)
    assert weight(fitted) < limit
    assert stage_and_code(fitted.headers) == ("parser", "bad_message")
    headers = dict(fitted.headers)
    own = {name: value for name, value in letter.headers() if not name.startswith("original-")}
    assert own.items() - headers.items() <= {("source-omitted-bytes", b"5")}
    assert letter.data.startswith(fitted.value or b"")
    assert int(headers["source-omitted-bytes"]) == 5 + data - len(fitted.value or b"")
    if weight(record) < limit // 2:
        assert fitted == record


def test_what_is_no_dead_letter_is_never_cut() -> None:
    """Half a segment would be a lie."""
    segment = Outbound("t", b"s" * 500_000, b"k", (("type", b"segment"),))
    assert limits_of(_Broker(t=100_000), "t").fitted(segment) is segment
