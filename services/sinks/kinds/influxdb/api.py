"""The three versions of InfluxDB's API: where points are written, how one signs in, and what `sink-setup` asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.http.client import Answer, HttpClient, Request
from services.sinks.kinds.influxdb.faults import error_text
from services.sinks.kinds.influxdb.settings import InfluxApi, InfluxSettings

_DAY_SECONDS: Final = 86_400
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where points go, in the words of one version of the API.

    Attributes:
        path: of a write, with its query.
        name: of the database or the bucket, for people.
    """

    path: str
    name: str

    @classmethod
    def of(cls, settings: InfluxSettings) -> Target:
        """Return the target of a sink."""
        match settings.api:
            case InfluxApi.V1:
                policy = {} if settings.retention_policy is None else {"rp": settings.retention_policy}
                query = {"db": settings.database, **policy, "precision": "ns"}
                return cls(f"/write?{urlencode(query)}", f"database {settings.database}")
            case InfluxApi.V2:
                query = {"org": settings.org, "bucket": settings.bucket, "precision": "ns"}
                return cls(f"/api/v2/write?{urlencode(query)}", f"bucket {settings.bucket}")
            case InfluxApi.V3:
                query = {"db": settings.database, "precision": "nanosecond", "accept_partial": "true", "no_sync": "false"}
                return cls(f"/api/v3/write_lp?{urlencode(query)}", f"database {settings.database}")


class Setup:
    """Creates the database or the bucket."""

    def __init__(self, client: HttpClient, settings: InfluxSettings) -> None:
        self._client = client
        self._settings = settings

    def run(self) -> str:
        """Create it unless it exists, and say what was done.

        Raises:
            ServerUnreachable, ConfigError: if the server cannot be reached, or does not allow it.
        """
        match self._settings.api:
            case InfluxApi.V1:
                return self._database_of_v1()
            case InfluxApi.V2:
                return self._bucket()
            case InfluxApi.V3:
                return self._database_of_v3()

    def _database_of_v1(self) -> str:
        name, days = self._settings.database, self._settings.retention_days
        expiry = f" WITH DURATION {days}d REPLICATION 1 NAME {_quoted(f'days_{days}')}" if days else ""
        sql = f"CREATE DATABASE {_quoted(name)}{expiry}"
        answer = self._ask(Request("POST", "/query", urlencode({"q": sql}).encode(), _FORM))
        problem = _problem_of_v1(answer)
        if problem is not None:
            raise ConfigError(f"influxdb does not create the database {name}: {problem}")
        return f"database {name} is there"

    def _bucket(self) -> str:
        org, bucket = self._settings.org, self._settings.bucket
        found = self._ask(Request("GET", f"/api/v2/buckets?{urlencode({'org': org, 'name': bucket})}"))
        if found.status == HTTPStatus.OK and _list(found, "buckets"):
            return f"bucket {bucket} is there"
        if found.status == HTTPStatus.BAD_REQUEST:  # a server that only takes writes, such as VictoriaMetrics
            return "the server has no buckets: nothing to create"
        organizations = _list(self._ask(Request("GET", f"/api/v2/orgs?{urlencode({'org': org})}")), "orgs")
        if not organizations:
            raise ConfigError(f"influxdb has no organization {org} that this token may see: set org")
        seconds = self._settings.retention_days * _DAY_SECONDS
        rules = [{"type": "expire", "everySeconds": seconds}] if seconds else []
        body = {"orgID": organizations[0].get("id"), "name": bucket, "retentionRules": rules}
        answer = self._ask(Request("POST", "/api/v2/buckets", json.dumps(body).encode(), _JSON))
        if answer.status != HTTPStatus.CREATED:
            raise ConfigError(f"influxdb does not create the bucket {bucket}: {error_text(answer)}")
        return f"created the bucket {bucket}"

    def _database_of_v3(self) -> str:
        name, days = self._settings.database, self._settings.retention_days
        body = {"db": name, **({"retention_period": f"{days}d"} if days else {})}
        answer = self._ask(Request("POST", "/api/v3/configure/database", json.dumps(body).encode(), _JSON))
        if answer.status == HTTPStatus.CONFLICT:
            return f"database {name} is there"
        if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}:
            raise ConfigError(f"influxdb does not create the database {name}: {error_text(answer)}")
        return f"created the database {name}"

    def _ask(self, request: Request) -> Answer:
        return ask(self._client, request)


def ask(client: HttpClient, request: Request) -> Answer:
    """Send a request that does not write points. Raises `ServerUnreachable`, `ConfigError`."""
    try:
        answer = client.send(request)
    except Retry as error:
        raise ServerUnreachable(f"{error}; is InfluxDB running, and are the sink's hosts right?") from error
    if answer.status == HTTPStatus.UNAUTHORIZED:
        raise ConfigError(f"influxdb denies the sign-in: check username and password, or token ({error_text(answer)})")
    if answer.status == HTTPStatus.FORBIDDEN:
        raise ConfigError(f"influxdb denies the right to do it ({error_text(answer)})")
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ServerUnreachable(f"influxdb answers {answer.status}: {error_text(answer)}")
    return answer


def _problem_of_v1(answer: Answer) -> str | None:
    """Return the error of a statement, which may come with status 200."""
    if answer.status != HTTPStatus.OK:
        return error_text(answer)
    problems = [result["error"] for result in _list(answer, "results") if "error" in result]
    return str(problems[0]) if problems else None


def _list(answer: Answer, name: str) -> list[Mapping[str, Any]]:
    """Return the objects under a name in a JSON answer; none if there are none."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        return []
    listed = found.get(name) if isinstance(found, dict) else None
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _quoted(name: str) -> str:
    """Return a name as an identifier of InfluxQL."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
