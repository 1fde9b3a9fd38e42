"""The delta sink at a real Azurite, beyond the sink contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.rows.types.flows import FLOWS
from libs.local.azurite import ACCOUNT, LocalAzurite
from libs.local.ports import LOOPBACK, free_port
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.delta.settings import DeltaSettings
from services.sinks.kinds.delta.sink import DeltaSink
from tests.canaries import ACCOUNT_KEY
from tests.flows import part, rows

pytestmark = pytest.mark.azurite


def made(container: str, directory: Path, **options: Any) -> DeltaSink:
    """Build a sink."""
    given = {"table": f"az://{container}/lake/flows", "directory": directory, "commit_rows": 10, **options}
    return DeltaSink(DeltaSettings.model_validate(given), FLOWS)


def account(azurite: LocalAzurite, **options: Any) -> dict[str, Any]:
    """Return the settings of the account."""
    return {"account_url": azurite.blob_endpoint, "account_key": ACCOUNT_KEY, **options}


def test_an_account_key_and_an_abfss_url_work(azurite: LocalAzurite, container: str, tmp_path: Path) -> None:
    """With the key of the account rows arrive, the storage goes away and comes back, and maintenance finds the files."""
    table = f"abfss://{container}@{ACCOUNT}.dfs.core.windows.net/lake/flows"
    sink = made(container, tmp_path / "state", table=table, storage=account(azurite))
    assert sink.setup() == f"created the table {table} with 29 columns"
    sink.open()
    assert sink.write([part(0, rows()[:12])]) == Outcome(12)
    azurite.stop()
    with pytest.raises(Retry, match="delta: cannot write to abfss://") as raised:
        sink.write([part(0, rows())])
    assert raised.value.kind == "storage"
    azurite.start()
    assert sink.write([part(0, rows())]).rejected == ()
    sink.close()
    said = sink.maintain()
    assert said is not None
    assert "joined 2 files to 1" in said


def test_what_is_wrong_at_the_start_is_said(azurite: LocalAzurite, container: str, tmp_path: Path) -> None:
    """A wrong key, a missing container and an account that does not answer are told apart, and show no secret."""
    for name, storage, error, text in (
        (container, account(azurite, account_key="d3Jvbmc="), ConfigError, "access to az://.* is denied"),
        ("nothing-there", account(azurite), (ConfigError, ServerUnreachable), "nothing-there"),
        (
            container,
            account(azurite, account_url=f"http://{LOOPBACK}:{free_port()}/{ACCOUNT}"),
            ServerUnreachable,
            "cannot be reached",
        ),
    ):
        with pytest.raises(error, match=text) as raised:
            made(name, tmp_path / "state", storage=storage).setup()
        assert ACCOUNT_KEY not in str(raised.value)
