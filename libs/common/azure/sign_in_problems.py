"""Why Azure gave no token, in one line: what azure-identity says, without what only fills it, and the likely cause."""

from __future__ import annotations

import re
from typing import Final

from libs.common.security.redaction import excerpt
from libs.common.security.visible import visible_line

# Ids and time of the exchange, which differ each time; general advice.
_FILLER: Final = re.compile(r"\s*(?:(?:Trace ID|Correlation ID|Timestamp): |Authority would typically ).*", re.DOTALL)
_CODE: Final = re.compile(r"AADSTS\d+")
# Codes of Microsoft Entra ID, and texts of the library where there is no code.
_CAUSES: Final = {
    "AADSTS7000215": "the client secret is not one of this application; give its value, not its id",
    "AADSTS7000222": "the client secret has expired; make a new one",
    "AADSTS700016": "the application is not in this tenant; check tenant_id and client_id",
    "AADSTS90002": "there is no such tenant in this cloud; check tenant_id and azure.cloud",
    "AADSTS900023": "tenant_id is not the id or domain of a tenant",
    "AADSTS700027": "the certificate is not registered with the application, or has expired",
    "AADSTS700024": "the assertion is not valid at this time; check the clock of this machine",
    "AADSTS700211": "no federated credential of the application has the issuer of this token",
    "AADSTS700213": "no federated credential of the application has the subject of this token",
    "AADSTS70021": "no federated credential of the application matches this token; check its issuer and subject",
    "AADSTS500011": "this service is unknown in the tenant; check azure.cloud",
    "AADSTS53003": "a policy of conditional access forbids it",
    "Unable to get authority configuration": "there is no such tenant in this cloud; check tenant_id and azure.cloud",
    "IMDS": "this machine has no managed identity, or cannot reach its endpoint",
    "No such file or directory": "the file of the workload identity is not there; is it mounted?",
}


def sign_in_problem(said: str) -> str:
    """Return one redacted line of what the library said, with the likely cause if it is known."""
    first = said.strip().partition("\n")[0] or "no reason given"
    text = visible_line(excerpt(_FILLER.sub("", first), 400))
    code = _CODE.search(said)
    cause = _CAUSES.get(code[0]) if code else next((cause for sign, cause in _CAUSES.items() if sign in first), None)
    return f"{text} ({cause})" if cause else text
