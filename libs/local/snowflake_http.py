"""fakesnow as a server that keeps its data and checks the sign-in. Run as a script; services do not import it.

The arguments are a port, a data directory and, for TLS, files with a certificate and its key; the rules come from the
environment, as JSON. What fakesnow does not do is added here:

- databases are files in the data directory, and there again after a restart;
- passwords, key pairs (their tokens are verified) and OAuth tokens are checked, with Snowflake's error codes;
- a database, schema or warehouse that does not exist ends the sign-in of a client that wants to know;
- a null in a column that takes none is Snowflake's error, not one of the server;
- times are exact to a microsecond, which is all that DuckDB has, and a time that is null is read as null.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

RULES: Final = "SNOWFLAKE_RULES"
LOOPBACK: Final = "127.0.0.1"
_WRONG_LOGIN: Final = (390100, "Incorrect username or password was specified.")
_WRONG_KEY: Final = (390144, "JWT token is invalid.")
_WRONG_TOKEN: Final = (390303, "Invalid OAuth access token.")
_NOT_THERE: Final = 390201
_EXACT_TIMES: Final = """
CREATE OR REPLACE MACRO {}._fs_to_timestamp(val, scale) AS (CASE
    WHEN try_cast(val AS BIGINT) IS NULL THEN CAST(val AS TIMESTAMP)
    WHEN scale = 0 THEN make_timestamp(val::BIGINT * 1000000)
    WHEN scale = 3 THEN make_timestamp(val::BIGINT * 1000)
    WHEN scale = 6 THEN make_timestamp(val::BIGINT)
    ELSE make_timestamp(val::BIGINT // 1000) END)
"""


class Denied(Exception):
    """A sign-in is refused: code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Account:
    """What exists, and who may sign in."""

    def __init__(self, rules: dict[str, Any]) -> None:
        self._rules = rules
        self.warehouse: str = rules["warehouse"]

    def check(self, login: dict[str, Any]) -> None:
        """Check who signs in. Raises `Denied`."""
        rules = self._rules
        if not (rules["passwords"] or rules["public_keys"] or rules["tokens"]):
            return
        user, way = str(login.get("LOGIN_NAME", "")).upper(), login.get("AUTHENTICATOR")
        if way == "SNOWFLAKE_JWT":
            self._check_key(user, login["TOKEN"])
        elif way == "OAUTH":
            if login["TOKEN"] not in rules["tokens"]:
                raise Denied(*_WRONG_TOKEN)
        elif user not in rules["passwords"] or login.get("PASSWORD") != rules["passwords"][user]:
            raise Denied(*_WRONG_LOGIN)

    def _check_key(self, user: str, token: str) -> None:
        """Verify a token as Snowflake does: its signature, and issuer and subject with the fingerprint of the key."""
        import jwt
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

        try:
            key = load_pem_public_key(self._rules["public_keys"][user].encode())
            told = jwt.decode(token, key, algorithms=["RS256", "ES256"], options={"require": ["iss", "sub", "iat", "exp"]})  # type: ignore[arg-type]
        except (KeyError, jwt.PyJWTError) as error:
            raise Denied(*_WRONG_KEY) from error
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        print_ = base64.b64encode(hashlib.sha256(der).digest()).decode()
        if told["iss"] != f"{told['sub']}.SHA256:{print_}" or not told["sub"].endswith(f".{user}"):
            raise Denied(*_WRONG_KEY)

    def check_names(self, asked: dict[str, str | None], schemas: set[tuple[str, str]]) -> None:
        """Check that what a session is to use exists. Raises `Denied`."""
        database, schema, warehouse = asked["databaseName"], asked["schemaName"], asked["warehouse"]
        missing = {
            "database": database is not None and database not in {name for name, _ in schemas},
            "schema": schema is not None and (database, schema) not in schemas,
            "warehouse": warehouse not in {None, self.warehouse},
        }
        for what, is_missing in missing.items():
            if is_missing:
                raise Denied(_NOT_THERE, f"The requested {what} does not exist or not authorized.")


def application(account: Account, directory: Path, database: str) -> Any:
    """Return fakesnow's application with our sign-in."""
    from fakesnow.instance import FakeSnow
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    server: Any = importlib.import_module("fakesnow.server")  # by another way, it is a function of the same name
    snow = server.shared_fs = FakeSnow(db_path=directory)
    for name in {database, *(file.stem for file in directory.glob("*.db"))}:
        snow.connect(name, "PUBLIC")
        snow.duck_conn.execute(_EXACT_TIMES.format(name))
    snow.create_database_on_connect = snow.create_schema_on_connect = False
    _translate_constraints()
    _keep_nulls()

    def schemas() -> set[tuple[str, str]]:
        found = snow.duck_conn.cursor().execute("SELECT catalog_name, schema_name FROM information_schema.schemata").fetchall()
        return {(name.upper(), schema.upper()) for name, schema in found}

    async def login(request: Request) -> JSONResponse:
        body = await request.body()
        given = json.loads(gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body)["data"]
        names = {name: request.query_params.get(name) for name in ("databaseName", "schemaName", "warehouse")}
        try:
            account.check(given)
            if given["SESSION_PARAMETERS"].get("CLIENT_VALIDATE_DEFAULT_PARAMETERS"):
                account.check_names(names, schemas())
        except Denied as denied:
            return JSONResponse({"data": {}, "code": str(denied.code), "message": denied.message, "success": False})
        answer = json.loads((await server.login_request(request)).body)
        answer["data"]["sessionInfo"]["warehouseName"] = account.warehouse
        answer["data"]["sessionInfo"]["roleName"] = request.query_params.get("roleName")
        return JSONResponse(answer)

    others = [route for route in server.routes if route.path != "/session/v1/login-request"]
    return Starlette(routes=[Route("/session/v1/login-request", login, methods=["POST"]), *others])


def _translate_constraints() -> None:
    import duckdb
    import snowflake.connector.errors
    from fakesnow.cursor import FakeSnowflakeCursor

    execute = FakeSnowflakeCursor._execute  # noqa: SLF001

    def translated(self: Any, *arguments: Any, **named: Any) -> None:
        try:
            execute(self, *arguments, **named)
        except duckdb.ConstraintException as error:
            raise snowflake.connector.errors.ProgrammingError(
                msg="NULL result in a non-nullable column", errno=100072, sqlstate="22000"
            ) from error

    FakeSnowflakeCursor._execute = translated  # type: ignore[method-assign]  # noqa: SLF001


def _keep_nulls() -> None:
    import pyarrow as pa
    from fakesnow import arrow

    of_times = arrow.timestamp_to_sf_struct

    def with_nulls(times: Any) -> Any:
        filled = of_times(times.fill_null(0))
        fields = list(filled.type)
        values = [filled.field(at) for at in range(len(fields))]
        return pa.StructArray.from_arrays(values, fields=fields, mask=times.combine_chunks().is_null())

    arrow.timestamp_to_sf_struct = with_nulls  # type: ignore[assignment]


def main(argv: list[str]) -> None:
    """Serve until the process is terminated."""
    port, directory, *files = argv
    tempfile.tempdir = directory  # fakesnow keeps uploaded files in a temporary directory
    import uvicorn

    rules = json.loads(os.environ[RULES])
    app = application(Account(rules), Path(directory), rules["database"])
    certificate, key = files or (None, None)
    uvicorn.run(app, host=LOOPBACK, port=int(port), log_level="warning", ssl_certfile=certificate, ssl_keyfile=key)


if __name__ == "__main__":
    main(sys.argv[1:])
