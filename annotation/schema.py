"""What the page may ask of the server: the one list of requests, from which the routes and an OpenAPI description are made."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from annotation.export import KINDS
from util.label_map import MOST_OBJECTS

LARGEST_NUMBER = 10**9 - 1  # in a path: a longer one is no frame
LARGEST_VERSION = 10**18 - 1
BYTES, JSON = "application/octet-stream", "application/json"
TYPES = {str: "string", bool: "boolean", int: "integer"}


class Operation(NamedTuple):
    """A request: the method of `Api` that answers it, its body (the type of each field, a byte for each pixel, or files one
    after the other), and the numbers in its query.
    """

    name: str
    body: Mapping[str, type] | None = None
    takes_labels: bool = False
    takes_files: bool = False
    query: tuple[str, ...] = ()


OPERATIONS = {
    ("GET", "/api/state"): Operation("state", query=("since",)),
    ("GET", "/api/frame/{frame}"): Operation("frame"),
    ("GET", "/api/mask/{frame}"): Operation("mask"),
    ("PUT", "/api/mask/{frame}"): Operation("give", takes_labels=True, query=("page", "gone")),
    ("DELETE", "/api/mask/{frame}"): Operation("forget", query=("page",)),
    ("GET", "/api/replaced/{frame}"): Operation("replaced"),
    ("POST", "/api/replaced/{frame}"): Operation("restore", query=("page",)),
    ("POST", "/api/cut/{frame}"): Operation("cut", takes_labels=True),
    ("POST", "/api/import/{frame}"): Operation("import_files", takes_files=True, query=("object", "page")),
    ("POST", "/api/object"): Operation("add", {"name": str}),
    ("PATCH", "/api/object/{object}"): Operation("change", {"name": str, "hidden": bool, "locked": bool, "colour": str}),
    ("DELETE", "/api/object/{object}"): Operation("remove", query=("page",)),
    ("POST", "/api/undo"): Operation("undo", {"page": int, "again": bool}),
    ("POST", "/api/follow"): Operation("follow", {"first": int, "last": int}),
    ("POST", "/api/stop"): Operation("stop"),
    ("POST", "/api/export"): Operation("export", {"kind": str}),
    ("GET", "/api/export/{kind}"): Operation("download"),
}


def openapi(length: int, size: tuple[int, int]) -> dict[str, Any]:
    """What may be asked, in OpenAPI 3, for a video of `length` frames of `size` (H, W).  Answers are not described."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = {
            "operationId": operation.name,
            "parameters": _parameters(path, length, operation),
            **_body(operation, math.prod(size)),
            "responses": {"default": {"description": "JSON, or bytes"}},
        }
    return {"openapi": "3.0.3", "info": {"title": "annotate.py", "version": "1"}, "paths": paths}


def _parameters(path: str, length: int, operation: Operation) -> list[dict[str, Any]]:
    in_path: dict[str, dict[str, Any]] = {
        "frame": {"type": "integer", "minimum": 0, "maximum": length - 1},
        "object": {"type": "integer", "minimum": 1, "maximum": MOST_OBJECTS},
        "kind": {"type": "string", "enum": list(KINDS)},
    }
    in_query: dict[str, dict[str, Any]] = {}
    for name in operation.query:
        in_query[name] = {"type": "integer", "minimum": 0, "maximum": LARGEST_VERSION}
    if operation.takes_files:
        for name, kind in (("name", "string"), ("size", "integer")):
            in_query[name] = {"type": "array", "minItems": 1, "items": {"type": kind}}
    found = {name: schema for name, schema in in_path.items() if f"{{{name}}}" in path}
    return [
        *({"name": name, "in": "path", "required": True, "schema": schema} for name, schema in found.items()),
        *({"name": name, "in": "query", "schema": schema} for name, schema in in_query.items()),
    ]


def _body(operation: Operation, pixels: int) -> dict[str, Any]:
    kind = BYTES
    schema: dict[str, Any] = {"type": "string", "format": "binary"}
    if operation.takes_labels:
        schema |= {"minLength": pixels, "maxLength": pixels}
    elif operation.body is not None:
        properties = {name: {"type": TYPES[of], "nullable": True} for name, of in operation.body.items()}
        kind, schema = JSON, {"type": "object", "properties": properties}
    elif not operation.takes_files:
        return {}
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}
