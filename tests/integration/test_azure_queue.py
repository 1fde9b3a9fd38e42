"""Queues over REST, on the storage emulator."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml
from click.testing import CliRunner
from pydantic import SecretStr

from libs.common.azure.storage.api import MessageGone, QueueMessage, StorageRefused
from libs.common.azure.storage.credentials import resolve, resolve_queues
from libs.common.azure.storage.queues import check_queue, open_queue
from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.settings.storage import EventQueue, StorageAccount
from libs.local.azurite import ACCOUNT
from services.cli.main import blobtide
from tests.canaries import ACCOUNT_KEY
from tests.queue_writer import QueueWriter, settings_of

pytestmark = pytest.mark.azurite


def test_messages_are_hidden_until_they_are_deleted_or_come_again(queue: QueueWriter) -> None:
    """Any text comes as it was put; a second delivery takes the right to delete from the first."""
    texts = [f"<&> \u20ac {number}" for number in range(40)]
    for text in texts:
        queue.put(text)
    opened = open_queue(queue.storage, "sub.dev", queue.settings)
    first = opened.receive(100, 1)
    assert [message.text for message in first] == texts[:32]
    rest = opened.receive(100, 60)
    assert [message.text for message in rest] == texts[32:]
    assert {message.deliveries for message in first + rest} == {1}
    for message in rest:
        opened.delete(message.receipt)
    again: list[QueueMessage] = []
    while not again:  # until the first ones are visible
        again = opened.receive(1, 60)
    assert again[0].deliveries == 2
    stale = next(message for message in first if message.receipt.message == again[0].receipt.message)
    with pytest.raises(MessageGone):
        opened.delete(stale.receipt)
    newest = opened.extend(opened.extend(again[0].receipt, 60), 60)
    with pytest.raises(MessageGone):
        opened.delete(again[0].receipt)
    opened.delete(newest)
    with pytest.raises(MessageGone):
        opened.extend(newest, 60)
    opened.close()


def test_messages_are_added_and_stay_as_they_are_when_they_are_extended(queue: QueueWriter) -> None:
    """Any text comes as it was put; an extended message is hidden only as long as was said last."""
    opened = open_queue(queue.storage, "sub.dev", queue.settings)
    opened.put("<&> \u20ac ]]>\n")
    (message,) = opened.receive(32, 60)
    opened.extend(message.receipt, 1)
    again: list[QueueMessage] = []
    while not again:
        again = opened.receive(1, 60)
    assert (again[0].text, again[0].deliveries) == ("<&> \u20ac ]]>\n", 2)
    opened.close()


def _sas(**permissions: str) -> str:
    """Return an account SAS for queues (version 2020-12-06 and later); the emulator deletes only with resource type c."""
    expiry = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    fields = {"sp": "rp", "ss": "q", "srt": "co", "st": "", "se": expiry, "sip": "", "spr": "https,http", "sv": "2023-11-03"}
    fields |= permissions
    text = "\n".join([ACCOUNT, *fields.values(), "", ""])
    digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256)
    return urlencode({name: value for name, value in fields.items() if value} | {"sig": base64.b64encode(digest).decode()})


def _with_sas(queue: QueueWriter, sas: str) -> tuple[StorageAccount, EventQueue]:
    blobs = resolve(queue.storage, "sub.dev").endpoint
    queues = resolve_queues(queue.storage, "sub.dev", None).endpoint
    account = StorageAccount(account_url=f"{blobs.origin}{blobs.path}", sas_token=SecretStr(sas))
    return account, EventQueue(queue=queue.name, service_url=f"{queues.origin}{queues.path}")


def test_a_signature_with_the_right_to_process_is_enough(queue: QueueWriter) -> None:
    """Messages can be read and deleted with it; one without that right is refused."""
    queue.put("text")
    account, settings = _with_sas(queue, _sas())
    check_queue(account, "sub.dev", settings)
    opened = open_queue(account, "sub.dev", settings)
    (message,) = opened.receive(32, 60)
    opened.delete(message.receipt)
    assert queue.count() == 0
    opened.close()
    refused, settings = _with_sas(queue, _sas(sp="a"))
    with pytest.raises(ServerUnreachable, match=r"sub\.dev"):
        check_queue(refused, "sub.dev", settings)


def test_a_queue_that_is_not_there_is_named(queue: QueueWriter) -> None:
    """The error names the queue and what to do."""
    nowhere = EventQueue(queue="no-such-queue")
    with pytest.raises(
        ConfigError, match=r"queue no-such-queue does not exist; create it, or correct its name in the settings"
    ):
        check_queue(queue.storage, "sub.dev", nowhere)
    opened = open_queue(queue.storage, "sub.dev", nowhere)
    with pytest.raises(StorageRefused):
        opened.receive(32, 60)
    opened.close()
    check_queue(queue.storage, "sub.dev", queue.settings)


def test_the_queue_of_requests_is_tried_as_the_collector_does(queue: QueueWriter, tmp_path: Path) -> None:
    """Nothing is received; a queue that is missing, or is not configured, is an error that says what to do."""
    queue.put("text")
    file = tmp_path / "my.yaml"
    for name, code, said in (
        (queue.name, 0, f"there is no queue {queue.name}-poison"),
        ("no-such-queue", ConfigError.exit_code, "queue no-such-queue does not exist; create it"),
        ("", ConfigError.exit_code, "set collector.queue"),
    ):
        collector = {"queue": {**settings_of(queue), "queue": name}} if name else {}
        file.write_text(yaml.safe_dump({"collector": collector}))
        done = CliRunner().invoke(blobtide, ("test-connection", "queue", "--config", str(file)))
        assert (done.exit_code, said in done.output) == (code, True), done.output
    opened = open_queue(queue.storage, "sub.dev", queue.settings)
    assert [(message.text, message.deliveries) for message in opened.receive(32, 60)] == [("text", 1)]
    opened.close()
