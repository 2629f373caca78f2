"""What the page may ask of the server: the one list of requests, from which the routes and an OpenAPI description are made."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from annotation.export import KINDS
from annotation.state import MOST_OBJECTS
from util.errors import InputError

LARGEST_NUMBER = 10**9 - 1  # in a path: a longer one is no frame
LARGEST_VERSION = 10**18 - 1
LABELS = FILE = "application/octet-stream"
PICTURE, JSON = "image/jpeg", "application/json"
TYPES = {str: "string", bool: "boolean", int: "integer"}


class Operation(NamedTuple):
    """A request: the method of `Api` that answers it, its body (the type of each field, a byte for each pixel, or files one
    after the other), the numbers in its query, and the type of the answer.
    """

    name: str
    body: Mapping[str, type] | None = None
    takes_labels: bool = False
    takes_files: bool = False
    query: tuple[str, ...] = ()
    answer: str = JSON


OPERATIONS = {
    ("GET", "/api/state"): Operation("state", query=("since",)),
    ("GET", "/api/frame/{frame}"): Operation("frame", answer=PICTURE),
    ("GET", "/api/mask/{frame}"): Operation("mask", answer=LABELS),
    ("PUT", "/api/mask/{frame}"): Operation("give", takes_labels=True, query=("page", "gone")),
    ("DELETE", "/api/mask/{frame}"): Operation("forget", query=("page",)),
    ("POST", "/api/cut/{frame}"): Operation("cut", takes_labels=True, answer=LABELS),
    ("POST", "/api/import/{frame}"): Operation("import_files", takes_files=True, query=("object",), answer=LABELS),
    ("POST", "/api/object"): Operation("add", {"name": str}),
    ("PATCH", "/api/object/{object}"): Operation("change", {"name": str, "hidden": bool, "locked": bool, "colour": str}),
    ("DELETE", "/api/object/{object}"): Operation("remove", query=("page",)),
    ("POST", "/api/undo"): Operation("undo", {"page": int, "again": bool}),
    ("POST", "/api/follow"): Operation("follow", {"first": int, "last": int}),
    ("POST", "/api/stop"): Operation("stop"),
    ("POST", "/api/export"): Operation("export", {"kind": str}),
    ("GET", "/api/export/{kind}"): Operation("download", answer=FILE),
}


def check_fields(name: str, found: object) -> dict[str, Any]:
    """The JSON body of an operation; fields may be missing or null.  Raises `InputError` if anything else is in it."""
    if not isinstance(found, dict):
        raise InputError("expected an object of JSON")
    fields = next(operation.body for operation in OPERATIONS.values() if operation.name == name) or {}
    for key, value in found.items():
        if key not in fields:
            raise InputError(f"expected {' or '.join(fields)}, found another field")
        if value is not None and type(value) is not fields[key]:
            raise InputError(f"{key}: expected a {TYPES[fields[key]]}")
    return found


def openapi(length: int, size: tuple[int, int]) -> dict[str, Any]:
    """The description of all requests in OpenAPI 3, for a video of `length` frames of `size` (H, W)."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = {
            "operationId": operation.name,
            "parameters": _parameters(path, length, operation),
            **({"requestBody": body} if (body := _body(operation, math.prod(size))) else {}),
            "responses": {
                "200": {"description": "done", "content": {operation.answer: {}}},
                **{code: _told(what) for code, what in ERRORS.items()},
            },
        }
    return {"openapi": "3.0.3", "info": {"title": "annotate.py", "version": "1"}, "paths": paths}


ERRORS = {
    "400": "what was asked cannot be; nothing has changed",
    "404": "there is no such place",
    "413": "too large",
    "507": "it cannot be saved; nothing has changed",
}


def _told(what: str) -> dict[str, Any]:
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {"description": what, "content": {JSON: {"schema": error}}}


def _parameters(path: str, length: int, operation: Operation) -> list[dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = {
        "frame": {"type": "integer", "minimum": 0, "maximum": length - 1},
        "object": {"type": "integer", "minimum": 1, "maximum": MOST_OBJECTS},
        "kind": {"type": "string", "enum": list(KINDS)},
    }
    found = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in schemas.items()
        if f"{{{name}}}" in path
    ]
    number = {"type": "integer", "minimum": 0, "maximum": LARGEST_VERSION}
    found += [{"name": name, "in": "query", "schema": number} for name in operation.query]
    if operation.takes_files:
        sizes, names = ({"type": "array", "minItems": 1, "items": kind} for kind in ({"type": "integer"}, {"type": "string"}))
        queries = {"name": names, "size": sizes}
        found += [{"name": name, "in": "query", "schema": schema} for name, schema in queries.items()]
    return found


def _body(operation: Operation, pixels: int) -> dict[str, Any]:
    if operation.takes_labels:
        labels = {"type": "string", "format": "binary", "minLength": pixels, "maxLength": pixels}
        return {"required": True, "content": {LABELS: {"schema": labels}}}
    if operation.takes_files:
        return {"required": True, "content": {LABELS: {"schema": {"type": "string", "format": "binary"}}}}
    if operation.body is None:
        return {}
    properties = {name: {"type": TYPES[kind], "nullable": True} for name, kind in operation.body.items()}
    return {"required": True, "content": {JSON: {"schema": {"type": "object", "properties": properties}}}}
