"""What the page may ask of the server: the one list of requests, from which the routes are made."""

from collections.abc import Mapping
from typing import NamedTuple

LARGEST_NUMBER = 10**9 - 1  # in a path: a longer one is no frame
LARGEST_VERSION = 10**18 - 1
BYTES = "application/octet-stream"
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
    ("PUT", "/api/mask/{frame}"): Operation("give", takes_labels=True, query=("page", "step", "gone")),
    ("DELETE", "/api/mask/{frame}"): Operation("forget", query=("page", "step")),
    ("GET", "/api/replaced/{frame}"): Operation("replaced"),
    ("POST", "/api/replaced/{frame}"): Operation("restore", query=("page", "step")),
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
