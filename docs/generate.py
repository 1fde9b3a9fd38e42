"""Write what is generated from definitions: pages of the reference, and what is installed in an OpenSearch.

The pages are about settings, row types, commands, sinks, error codes and metrics; the others are in ``deploy/opensearch/``.
Run ``python docs/generate.py`` to write them; a test fails if they are stale.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.json import json_lines
from libs.common.rows.row_type import WORD, RowType
from libs.common.rows.types import ROW_TYPES
from libs.common.settings import Settings
from libs.common.settings.description import described, group_in
from libs.common.settings.variables import PREFIX
from services.cli.main import COMMANDS, blobtide
from services.collector.api.openapi import openapi, openapi_document
from services.collector.requests.schema import request_schema, write_request
from services.collector.requests.templates import TEMPLATES, example_requests
from services.sinks.frame.kind import all_kinds
from services.sinks.kinds.elasticsearch.cluster_setup import default_installations
from services.sinks.kinds.elasticsearch.lifecycle import opensearch_policy
from services.sinks.kinds.elasticsearch.setup import template_of

ROOT = Path(__file__).parents[1]
REFERENCE = "docs/reference"
OPENSEARCH = "deploy/opensearch"


def files() -> dict[str, str]:
    """Return the content of every generated file by its path in the repository."""
    return {**{f"{REFERENCE}/{name}": text for name, text in pages().items()}, **dict(_opensearch())}


def pages() -> dict[str, str]:
    """Return every page of the reference by its name."""
    return {
        "settings.md": _settings(),
        **{f"rows/{name}.md": _rows(kind) for name, kind in ROW_TYPES.items()},
        "commands.md": _commands(),
        "error-codes.md": _error_codes(),
        "sinks.md": _sinks(),
        "metrics.md": _metrics(),
        "collection-requests.md": _collection_requests(),
        "collection-request.schema.json": json.dumps(request_schema(), indent=2) + "\n",
        "collection-api.md": _collection_api(),
        "collection-api.openapi.json": openapi_document().decode(),
    }


def _settings() -> str:
    lines: list[str] = [
        "# Settings",
        "",
        "Settings come from a YAML file and from environment variables, which take precedence. The file is `--config`, else",
        "`$BLOBTIDE_CONFIG`, else `~/.blobtide/config.yaml` if it exists. A variable is named after the path of its setting:",
        f"`kafka.bootstrap_servers` is `{PREFIX}KAFKA__BOOTSTRAP_SERVERS`. Lists and maps in variables are JSON. Unknown settings and",
        "unknown variables are refused. `blobtide config show` prints the settings in effect.",
        "",
        "Any text may be a reference to a secret in Key Vault, `kv://VAULT/NAME`: see [secrets in Key Vault](../how-to/key-vault.md).",
    ]
    for name, field in Settings.model_fields.items():
        lines += ["", f"## `{name}`", ""]
        model = group_in(field.annotation)
        if model is None:
            lines.append(_free_form(name))
        else:
            lines += [_first_line(model), "", *_table(model)]
    lines += ["", "# Options of the sinks", "", "Set these under `sinks: {NAME: {...}}`."]
    for name, kind in all_kinds().items():
        lines += ["", f"## `sinks.{name}`", "", *_table(kind.load(kind.settings))]
    return "\n".join(lines) + "\n"


def _free_form(name: str) -> str:
    if name == "subscriptions":
        return (
            "Subscription name → `environments` → environment name → the settings below. Blobs are named by the alias `<subscription>.<environment>`.\n\n"
            + "\n".join(_table(_storage_model()))
        )
    return "Sink name → its options; see below."


def _storage_model() -> type[BaseModel]:
    from libs.common.settings.storage import Environment

    return Environment


def _table(model: type[BaseModel]) -> list[str]:
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for setting in described(model):
        kind = " \\| ".join(f"`{value}`" for value in setting.values) or setting.type
        default = setting.default if setting.default in {"", "required"} else f"`{setting.default}`"
        rows.append(f"| `{setting.name}` | {kind} | {default} | {setting.meaning} |")
    return rows


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").splitlines()[0]


def _sinks() -> str:
    lines = [
        "# Sinks",
        "",
        "`blobtide run sink NAME` runs a sink. Each sink has its own consumer group, so one that is down does not delay the others. For",
        "the options, see [settings](settings.md#options-of-the-sinks).",
        "",
        "| sink | promise | extra | description |",
        "|---|---|---|---|",
        *(
            f"| [`{name}`](#{name}) | {' or '.join(kind.promises)} | {kind.extra or ''} | {kind.description} |"
            for name, kind in all_kinds().items()
        ),
    ]
    for name, kind in all_kinds().items():
        module = importlib.import_module(kind.sink.partition(":")[0])
        lines += ["", f"## {name}", "", inspect.getdoc(module) or "", "", "```yaml", *kind.example_lines(name), "```"]
    return "\n".join(lines) + "\n"


def _rows(kind: RowType) -> str:
    example = json.loads(json_lines(kind.example_table))
    lines = [
        f"# Rows: {kind.name}",
        "",
        kind.description,
        "",
        f"Schema version: {kind.version}. Topic setting: [`topics.{kind.topic}`](../settings.md#topics). Time of a row: `{kind.time}`. Identity of a row: "
        + ", ".join(f"`{name}`" for name in kind.position.names)
        + "."
        + (
            f" If several rows have the same {', '.join(f'`{name}`' for name in kind.keys)}, only the newest counts."
            if kind.keys
            else ""
        ),
        "",
        "| column | Arrow type | unit | meaning | null means |",
        "|---|---|---|---|---|",
        *(
            f"| `{column.name}` | {_arrow(column.type)} | {column.unit} | {column.description} | {column.null_means or '(never null)'} |"
            for column in kind.columns
        ),
        "",
        "## Example",
        "",
        "As JSON, without nulls:",
        "",
        "```json",
        json.dumps(example, indent=2, ensure_ascii=False),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _arrow(kind: pa.DataType) -> str:
    return "string (dictionary)" if kind == WORD else str(kind)


def _commands() -> str:
    lines = ["# Commands", ""]
    with click.Context(blobtide, info_name="blobtide") as context:
        for name in COMMANDS:
            command = blobtide.get_command(context, name)
            if command is not None:
                lines += _help(command, name, context)
    return "\n".join(lines)


def _help(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100) as context:
        yield from (f"## `{context.command_path}`", "", "```", command.get_help(context), "```", "")
        for sub, child in getattr(command, "commands", {}).items():
            yield from _help(child, sub, context)


def _error_codes() -> str:
    comments = dict(re.findall(r'= "(\w+)"\s*#\s*(.+)', inspect.getsource(ErrorCode)))
    rows = [f"| `{code.value}` | {comments[code.value]} |" for code in ErrorCode]
    return (
        "\n".join(
            ["# Error codes", "", "The values of the header `code` in `Errors`.", "", "| code | meaning |", "|---|---|", *rows]
        )
        + "\n"
    )


METRICS = {
    "libs.common.security.transport": "transport",
    "libs.common.kafka.client.metrics": "kafka",
    "libs.common.azure.storage.metrics": "storage",
    "libs.common.azure.arm.metrics": "azure-resource-manager",
    "services.blob_monitor.metrics": "blob-monitor",
    "services.ingest.metrics": "ingest",
    "services.parser.metrics": "parser",
    "services.aggregator.metrics": "aggregator",
    "services.collector.metrics": "collector",
    "services.recorder.metrics": "recorder",
    "services.sinks.frame.metrics": "sinks",
}


def _metrics() -> str:
    lines = ["# Metrics", "", "Each service exposes its metrics to Prometheus at `/metrics`. No label contains a blob name."]
    for name, title in METRICS.items():
        module = importlib.import_module(name)
        lines += [
            "",
            f"## {title}",
            "",
            "| metric | type | labels | meaning |",
            "|---|---|---|---|",
        ]
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                lines.append(_metric(metric))
    return "\n".join(lines) + "\n"


def _metric(metric: MetricWrapperBase) -> str:
    family = next(iter(metric.describe()))
    suffix = "_total" if family.type == "counter" else ""
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001 - there is no public way
    return f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |"


def _collection_requests() -> str:
    """Return the page about requests for configuration, from their JSON Schema and the templates."""
    definitions = request_schema()["$defs"]
    rows = [
        f"| `{one.name}` | {one.lists} | {', '.join(f'`{name}`' for name in one.parameters)} | `{one.call.api_version}` | `{one.permission}` |"
        for one in TEMPLATES.values()
    ]
    example = json.loads(write_request(next(example_requests())))
    lines = [
        "# Requests for configuration",
        "",
        "A request is one JSON object that lists calls of the API of Azure Resource Manager. `blobtide collector check FILE` checks requests and",
        "shows the calls that they make. The [JSON Schema](collection-request.schema.json) is what an editor or another program needs.",
        "",
        "```json",
        json.dumps(example, indent=2),
        "```",
        "",
        *_members("A request", definitions["CollectionRequest"]),
        *_members("A call", definitions["ApiRequest"]),
        "Unknown members are refused, and so is a body that is nested more than 100 levels deep.",
        "Nothing in a request chooses the server: a path consists of plain segments, and a value of a placeholder",
        "is escaped, or refused if it has a slash, a backslash, a percent sign or a control character, or makes a segment of dots.",
        "",
        "## Templates",
        "",
        "`blobtide collector templates NAME` prints one of them. The permission is what the identity of the collector needs for it; the role",
        "Reader has all of them.",
        "",
        "| template | lists | parameters | API version | permission |",
        "|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _members(title: str, definition: dict[str, Any]) -> Iterator[str]:
    """Yield a table of the members of an object of a JSON Schema."""
    yield from (f"## {title}", "", "| member | type | default | meaning |", "|---|---|---|---|")
    for name, member in definition["properties"].items():
        default = "required" if name in definition["required"] else _default_of(member)
        yield f"| `{name}` | {_type_of(member)} | {default} | {member['description']} |"
    yield ""


def _default_of(member: dict[str, Any]) -> str:
    default = member["default"]
    return f"`{default}`" if isinstance(default, str) else ""


def _type_of(member: dict[str, Any]) -> str:
    match member:
        case {"$ref": reference}:
            values = request_schema()["$defs"][reference.rpartition("/")[2]]["enum"]
            return " \\| ".join(f"`{value}`" for value in values)
        case {"type": "array"}:
            return "list of calls"
        case {"type": "object", "additionalProperties": _}:
            return "object of texts"
        case {"type": kind}:
            return {"string": "text"}.get(kind, kind)
        case {"anyOf": _}:
            return "text"
    return "any"


def _collection_api() -> str:
    """Return the page about the API of the collector, from its OpenAPI document."""
    document = openapi()
    schemas = document["components"]["schemas"]
    lines = [
        "# The API of the collector",
        "",
        "The collector takes [requests](collection-requests.md) over HTTP, if `collector.api` is set; see",
        "[how to use it](../how-to/collect-azure-configuration.md#over-http). `GET /openapi.json` serves this as a document of OpenAPI 3.1, which is also",
        "[here](collection-api.openapi.json).",
        "",
        "Every request but that one needs the header `Authorization: Bearer TOKEN`. Errors are problems (RFC 9457): a JSON object with `title`, `status`",
        "and `detail`, which says what is wrong and what to do.",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += _operation(f"{method.upper()} {path}", operation)
    for title, name in (
        ("An accepted request", "AcceptedRequest"),
        ("Progress", "CollectionProgress"),
        ("Progress of a call", "CallProgress"),
    ):
        lines += ["", f"## {title}", "", "| member | type | meaning |", "|---|---|---|"]
        for member, schema in schemas[name]["properties"].items():
            lines.append(f"| `{member}` | {_json_type(schema, schemas)} | {schema['description']} |")
    lines += ["", "An `error` has `code` and `message` and, if Azure has answered, its `status` and `request_id`."]
    return "\n".join(lines) + "\n"


def _operation(title: str, operation: dict[str, Any]) -> Iterator[str]:
    """Yield what an operation does, and a table of its answers."""
    said = " ".join(operation[name] for name in ("summary", "description") if name in operation)
    yield from ("", f"## {title}", "", said, "", "| status | meaning | headers |", "|---|---|---|")
    for status, answer in operation["responses"].items():
        yield f"| {status} | {answer['description']} | {', '.join(f'`{name}`' for name in answer.get('headers', {}))} |"


def _json_type(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    match schema:
        case {"anyOf": kinds}:
            return " or ".join(_json_type(kind, schemas) for kind in kinds)
        case {"$ref": reference}:
            values = schemas[reference.rpartition("/")[2]].get("enum")
            return " \\| ".join(f"`{value}`" for value in values) if values else "object"
        case {"type": "array"}:
            return "list of objects"
        case {"format": "date-time"}:
            return "time"
        case {"type": kind}:
            return {"string": "text"}.get(kind, kind)
    return "any"


def _opensearch() -> Iterator[tuple[str, str]]:
    """Yield what `blobtide opensearch setup` sends to an OpenSearch for types of rows without a sink."""
    for one in default_installations().values():
        policy = opensearch_policy(one.lifecycle, one.description, one.target.pattern())
        for folder, body in (("index-templates", template_of(one, {}).body), ("policies", policy)):
            yield f"{OPENSEARCH}/{folder}/{one.name}.json", json.dumps(body, indent=2) + "\n"


def main() -> None:
    """Write all files below the directory given as argument, or where they belong."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    for name, text in files().items():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()
