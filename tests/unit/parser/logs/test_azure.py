"""Diagnostic logs of Azure."""

from __future__ import annotations

import pytest

from tests.log_rows import OBSERVED, line_of, outcomes, parse, rows

VAULT = "/SUBSCRIPTIONS/S/RESOURCEGROUPS/G/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/V"


def test_an_audit_event_of_a_key_vault() -> None:
    """Category, resource, operation, caller and correlation id have columns; the rest are attributes."""
    line = {
        "time": "2026-05-01T12:00:00.1234567Z",
        "resourceId": VAULT,
        "operationName": "SecretGet",
        "operationVersion": "2015-06-01",
        "category": "AuditEvent",
        "resultType": "Success",
        "resultSignature": "OK",
        "durationMs": "78",
        "callerIpAddress": "192.0.2.7",
        "correlationId": "c-1",
        "identity": {"claim": {"appid": "a"}},
        "properties": {"httpStatusCode": 200, "id": "https://v.vault.azure.net/secrets/s"},
    }
    attributes = (
        '{"operationVersion":"2015-06-01","resultType":"Success","resultSignature":"OK","durationMs":"78",'
        '"identity":{"claim":{"appid":"a"}},"properties":{"httpStatusCode":200,"id":"https://v.vault.azure.net/secrets/s"}}'
    )
    assert rows(parse(line_of(line))) == [
        {
            "type": "application",
            "time": "2026-05-01T12:00:00.123456700Z",
            "observed_time": OBSERVED,
            "category": "AuditEvent",
            "operation": "SecretGet",
            "client_address": "192.0.2.7",
            "correlation_id": "c-1",
            "format": "azure",
            "resource_id": VAULT,
            "attributes": attributes,
            "line_offset": 4096,
        }
    ]


def test_messages_of_app_service_and_firewall() -> None:
    """The message is the result's description, or what the properties say."""
    console = {
        "time": "2026-05-01T12:00:00Z",
        "resultDescription": "started",
        "category": "AppServiceConsoleLogs",
        "level": "Error",
    }
    rule = {"time": "2026-05-01T12:00:01Z", "category": "AzureFirewallNetworkRule", "properties": {"msg": "TCP request, Deny"}}
    found = rows(parse(*(line_of(one | {"resourceId": "/r"}) for one in (console, rule))))
    assert [(row["body"], row.get("severity_number")) for row in found] == [("started", 17), ("TCP request, Deny", None)]


@pytest.mark.parametrize(
    ("level", "number"), [("Informational", 9), ("4", 9), (2, 17), ("Critical", 18), ("5", 5), ("0", None)]
)
def test_levels_are_names_or_numbers(level: object, number: int | None) -> None:
    """Numbers are those of event levels; the text is kept as it is."""
    (row,) = rows(parse(line_of({"time": "2026-05-01T12:00:00Z", "resourceId": "/r", "category": "c", "level": level})))
    assert (row["severity_text"], row.get("severity_number")) == (str(level), number)


def test_platform_metrics() -> None:
    """A metric is a row without a message, whose values are attributes."""
    line = {"count": 4, "average": 0.25, "resourceId": "/r", "time": "2026-05-01T12:00:00Z", "metricName": "Availability"}
    (row,) = rows(parse(line_of(line)))
    assert (row["format"], row["resource_id"]) == ("azure", "/r")
    assert row["attributes"] == '{"count":4,"average":0.25,"metricName":"Availability"}'


def test_a_line_without_a_time_is_a_dead_letter() -> None:
    """As of all other JSON."""
    assert outcomes(parse(line_of({"resourceId": "/r", "category": "c"}))) == [
        ("bad_record", "azure: no time that can be read")
    ]


def test_a_line_of_no_resource_is_other_json() -> None:
    """A category alone does not make a line one of Azure."""
    (row,) = rows(parse(line_of({"time": "2026-05-01T12:00:00Z", "category": "shop.Orders", "message": "m"})))
    assert (row["format"], row["logger"]) == ("json", "shop.Orders")
