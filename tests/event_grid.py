"""Messages as Event Grid puts them into a storage queue, in both schemas and both encodings."""

from __future__ import annotations

import base64
import json
from typing import Any

CREATED = "Microsoft.Storage.BlobCreated"
ACCOUNT = "account"


def grid_event(name: str, container: str = "logs", account: str = ACCOUNT, kind: str = CREATED) -> dict[str, Any]:
    """Return an event in Event Grid's schema."""
    return {
        "topic": _account(account),
        "subject": _subject(container, name),
        "eventType": kind,
        "eventTime": "2026-05-01T12:29:59.1234567Z",
        "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": _data(name, container, account),
        "dataVersion": "",
        "metadataVersion": "1",
    }


def cloud_event(name: str, container: str = "logs", account: str = ACCOUNT, kind: str = CREATED) -> dict[str, Any]:
    """Return an event in the schema CloudEvents 1.0."""
    return {
        "specversion": "1.0",
        "source": _account(account),
        "subject": _subject(container, name),
        "type": kind,
        "time": "2026-05-01T12:29:59.1234567Z",
        "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": _data(name, container, account),
    }


def plain(*events: dict[str, Any]) -> str:
    """Return a message of one event, or of an array, as JSON."""
    return json.dumps(events[0] if len(events) == 1 else events)


def encoded(*events: dict[str, Any]) -> str:
    """Return a message in base64."""
    return base64.b64encode(plain(*events).encode()).decode()


def written(name: str, container: str = "logs", account: str = ACCOUNT) -> str:
    """Return the message that says that a blob was written, as Azure sends it by default."""
    return encoded(grid_event(name, container, account))


def _account(account: str) -> str:
    return f"/subscriptions/S/resourceGroups/G/providers/Microsoft.Storage/storageAccounts/{account}"


def _subject(container: str, name: str) -> str:
    return f"/blobServices/default/containers/{container}/blobs/{name}"


def _data(name: str, container: str, account: str) -> dict[str, Any]:
    return {
        "api": "PutBlockList",
        "clientRequestId": "6d79dbfb-0e37-4fc4-981f-442c9ca65760",
        "requestId": "831e1650-001e-001b-66ab-eeb76e000000",
        "eTag": "0x8D4BCC2E4835CD0",
        "contentType": "application/octet-stream",
        "contentLength": 524288,
        "blobType": "BlockBlob",
        "url": f"https://{account}.blob.core.windows.net/{container}/{name}",
        "sequencer": "00000000000004420000000000028963",
        "storageDiagnostics": {"batchId": "b68529f3-68cd-4744-baa4-3c0498ec19f0"},
    }
