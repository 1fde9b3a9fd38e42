"""The search for secrets in what tests and their processes print: one that finds nothing would never be noticed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from libs.common.security.redaction import redact
from libs.common.settings import load_settings
from tests.canaries import ACCOUNT_KEY, PASSWORD, TOKEN, leaks, leaks_in, with_canaries

SHOWN = [
    f"key {ACCOUNT_KEY} is wrong",
    f"?sig={quote(ACCOUNT_KEY[::-1], safe='')}",
    json.dumps({"p": PASSWORD}),
    base64.b64encode(PASSWORD.encode()).decode(),
    f"ApiKey {TOKEN}",
    "Authorization: SharedKey a1:" + "A" * 43 + "=",
]


@pytest.mark.parametrize("text", SHOWN)
def test_a_secret_is_found_however_it_is_written(text: str) -> None:
    """Plain, encoded for a URL, in JSON and as base64; and signatures made with the key."""
    assert leaks(text)
    assert not leaks("a line as any other: account a1, container c, 403 AuthenticationFailed")


def test_logs_are_searched_and_segments_of_a_broker_are_not(tmp_path: Path) -> None:
    """What a process left as its log counts; the data of a broker hold what was written to it."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "00000000000000000000.log").write_text(TOKEN)
    assert leaks_in(tmp_path) == []
    log = tmp_path / "logs" / "sink.log"
    log.write_text(f"x {TOKEN}")
    assert leaks_in(tmp_path) == [f"{log}: {TOKEN}"]
    log.unlink()


@pytest.mark.parametrize("text", SHOWN)
def test_what_settings_hold_is_taken_out_of_any_text(tmp_path: Path, text: str) -> None:
    """Once settings are loaded, each secret in them is known, and redaction leaves nothing of it for the search."""
    storage = {"account_name": "logs", "account_key": ACCOUNT_KEY}
    environments = {"e": {"storage": storage, "sources": [{"container": "logs"}]}}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(with_canaries({"subscriptions": {"s": {"environments": environments}}})))
    load_settings(file)
    assert leaks(redact(text)) == []
