"""A description of the server of annotate.py in OpenAPI 3, from which requests are made up."""

import math
from typing import Any

from annotation.export import KINDS
from annotation.schema import BYTES, JSON, LARGEST_VERSION, OPERATIONS, TYPES, Operation
from util.label_map import MOST_OBJECTS


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
