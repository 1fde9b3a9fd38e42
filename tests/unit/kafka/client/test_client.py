"""Client configurations: what is fixed, what can be chosen, where secrets come from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.kafka.client.client_log import ClientLog, reason_in
from libs.common.kafka.client.configs import check_reachable, consumer_config, producer_config, transactional_config
from libs.common.kafka.transactions.producer import TransactionTimes
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, SecurityProtocol
from libs.common.settings.masking import masked


def test_a_consumer_reads_committed_records_and_never_moves_offsets_by_itself() -> None:
    """A consumer is read_committed, commits nothing by itself and never resets a position silently."""
    config = consumer_config(KafkaSettings(), "g")
    assert config["isolation.level"] == "read_committed"
    assert config["enable.auto.commit"] is False
    assert config["enable.auto.offset.store"] is False
    assert config["auto.offset.reset"] == "error"
    assert config["check.crcs"] is True


def test_producers_are_idempotent_and_give_up_before_their_transaction() -> None:
    """Producers are idempotent, place keys as the whole pipeline does, and time out before the transaction would."""
    config = transactional_config(KafkaSettings(transaction_timeout_ms=12_000), "p.ingest.0")
    assert config["transactional.id"] == "p.ingest.0"
    assert config["message.timeout.ms"] < config["transaction.timeout.ms"] == 12_000
    assert config["socket.timeout.ms"] < config["transaction.timeout.ms"]
    assert config["partitioner"] == producer_config(KafkaSettings())["partitioner"] == "murmur2_random"
    assert config["acks"] == "all"


def test_kafka_ends_no_transaction_before_we_do() -> None:
    """The transaction timeout cannot be set below what a commit may take until it is given up."""
    limits = TransactionTimes()
    longest = limits.commit + limits.grace + limits.abort
    with pytest.raises(ValidationError, match="transaction_timeout_ms"):
        KafkaSettings(transaction_timeout_ms=round(longest * 1000))
    assert KafkaSettings(transaction_timeout_ms=10_000).transaction_timeout_ms > longest * 1000


def test_options_that_decide_over_delivery_are_refused_and_others_win() -> None:
    """A librdkafka option that blobtide fixes is refused by name; any other overrides the default."""
    with pytest.raises(ConfigError, match=r"kafka\.librdkafka\.auto\.offset\.reset is set by blobtide"):
        consumer_config(KafkaSettings(librdkafka={"auto.offset.reset": "latest"}), "g")
    assert consumer_config(KafkaSettings(librdkafka={"fetch.queue.backoff.ms": "7"}), "g")["fetch.queue.backoff.ms"] == "7"


def test_the_password_comes_from_a_file_or_a_value(tmp_path: Path) -> None:
    """A password file is read without its line end; value and file together are refused."""
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    secured = KafkaSettings(security_protocol=SecurityProtocol.SASL_SSL, sasl_username="u", sasl_password_file=file)
    assert producer_config(secured)["sasl.password"] == "s3cret"
    with pytest.raises(ConfigError, match="not both"):
        producer_config(KafkaSettings(**{**secured.model_dump(), "sasl_password": "x"}))
    with pytest.raises(ConfigError, match="cannot read"):
        producer_config(KafkaSettings(**{**secured.model_dump(), "sasl_password_file": tmp_path / "none"}))


def test_an_old_client_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A librdkafka older than 2.15 is refused before any client is made."""
    monkeypatch.setattr(confluent_kafka, "libversion", lambda: ("2.14.9", 0x020E09FF))
    with pytest.raises(ConfigError, match=r"librdkafka 2\.14\.9 is too old"):
        producer_config(KafkaSettings())


def test_an_unreachable_kafka_is_one_line_that_says_what_to_check() -> None:
    """Where nothing listens, the check names the address, the reason and the settings to look at."""
    with pytest.raises(ServerUnreachable) as caught:
        check_reachable(KafkaSettings(bootstrap_servers="127.0.0.1:1"), seconds=2.0)
    text = str(caught.value)
    assert "127.0.0.1:1" in text
    assert "Connection refused" in text
    assert "kafka.bootstrap_servers" in text
    assert "\n" not in text


def test_client_lines_are_passed_on_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the lines that a client repeats while a broker is away, one a minute is logged, with the count of the others."""
    now = 0.0
    log = ClientLog("c", clock=lambda: now)
    for _ in range(50):
        log.log(
            logging.ERROR,
            "%s [%s] %s",
            "FAIL",
            "rdkafka#1",
            "[thrd:x]: h:1/bootstrap: Connect failed (after 0ms in state CONNECT)",
        )
    now = 61.0
    log.log(logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka#1", "again")
    assert capsys.readouterr().out.count("Kafka client") == 2
    assert log.last_problem == "again"


def test_a_timed_out_coordinator_is_noticed() -> None:
    """A request time-out that names the transaction coordinator is remembered; other lines are not."""
    log = ClientLog("c")
    log.log(logging.INFO, "%s [%s] %s", "REQTMOUT", "r", "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: Timed out FetchRequest")
    assert not log.coordinator_timed_out
    log.log(
        logging.INFO,
        "%s [%s] %s",
        "REQTMOUT",
        "r",
        "[thrd:TxnCoordinator]: TxnCoordinator/1: Timed out EndTxnRequest in flight",
    )
    assert log.coordinator_timed_out


def test_the_readable_part_of_a_line_is_kept() -> None:
    """Thread, broker and timing of a client's line are left out."""
    failure = "Connect to ipv4#127.0.0.1:1 failed: Connection refused"
    line = f"[thrd:a/bootstrap]: 127.0.0.1:1/bootstrap: {failure} (after 0ms in state CONNECT)"
    assert reason_in(line) == failure


OAUTH = {"token_url": "https://login.example/token", "client_id": "parser", "client_secret": "hunter2-hunter2"}
TOKENS = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}


def test_tokens_are_had_with_what_the_settings_say(tmp_path: Path) -> None:
    """Endpoint, client, secret (also from a file), scope and CA become the client's options; no password goes along."""
    (tmp_path / "secret").write_text("from a file\n")
    more = {"client_secret": "", "client_secret_file": tmp_path / "secret", "scope": "kafka", "ca_location": "/ca.pem"}
    config = producer_config(KafkaSettings.model_validate({**TOKENS, "oauth": {**OAUTH, **more}}))
    assert {name: value for name, value in config.items() if "oauthbearer" in name or "https" in name} == {
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "https://login.example/token",
        "sasl.oauthbearer.client.id": "parser",
        "sasl.oauthbearer.client.secret": "from a file",
        "sasl.oauthbearer.scope": "kafka",
        "https.ca.location": "/ca.pem",
    }
    assert "sasl.password" not in config


def test_the_secret_of_a_client_is_not_shown() -> None:
    """What is shown of settings has asterisks in its place."""
    settings = Settings(kafka=KafkaSettings.model_validate({**TOKENS, "oauth": OAUTH}))
    assert "hunter2" not in str(masked(settings)) + str(settings) + repr(settings.kafka.oauth)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"oauth": OAUTH}, "oauth would have no effect"),
        ({**TOKENS, "sasl_mechanism": "SCRAM-SHA-512", "oauth": OAUTH}, "oauth would have no effect"),
        ({**TOKENS, "oauth": {"scope": "kafka"}}, "oauth requires token_url and client_id"),
        (TOKENS, "OAUTHBEARER requires a source of tokens: set oauth"),
        ({**TOKENS, "oauth": OAUTH, "librdkafka": {"sasl.oauthbearer.method": "oidc"}}, "remove one"),
    ],
)
def test_a_login_by_token_that_cannot_work_is_refused(given: dict[str, Any], said: str) -> None:
    """What would never be used, or lacks a half, is said when the settings are loaded."""
    with pytest.raises(ValidationError, match=said):
        KafkaSettings.model_validate(given)


def test_tokens_may_also_be_had_by_options_of_the_client() -> None:
    """What only librdkafka has options for, such as an identity of the cloud, is left to it."""
    options = {"sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.token.endpoint.url": "https://login.example/token"}
    assert options.items() <= producer_config(KafkaSettings.model_validate({**TOKENS, "librdkafka": options})).items()
