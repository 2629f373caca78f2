"""Thousands of odd requests to the page of annotate.py, some of them with a full disk.

    PYTHONPATH=.:tests bash tests/robustness/sandbox.sh FOLDER python tests/robustness/requested.py FOLDER --cases 6000

Each is answered with a status that the page knows, in one short line where it is refused, and what is refused changes nothing.
The application runs in this process, without a network.
"""

import argparse
import asyncio
import json
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from urllib.parse import quote

import good
import numpy as np
from breaks import VALUES
from films import SIZE, square, write_folder
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from annotation.schema import OPERATIONS
from annotation.server import Gate, session_app
from annotation.session import Session
from annotation.worker import Worker
from dataset.own_video import open_video
from evaluation.cut import cut_from_scribbles
from util.errors import InputError

LENGTH, PORT, TOKEN = 4, 8765, "token"
STATUSES = {200, 303, 307, 400, 403, 404, 405, 413}
FULL = 507
NUMBERS = (
    *("0", "1", "2", "3", "4", "254", "255", "256", "-1", "00", "1.0", "1e3", "x", "", "٣", "9" * 9, "9" * 10, "9" * 5000),
    *("0/", "..", "../../etc/passwd", "%00", "%2e%2e", "\udcff", "🐄", "nan", " 1", "overlay", "masks", "cutout_film"),
)
HEADERS = (
    *({"host": value} for value in ("evil.example", "", "[::1]:1", "127.0.0.1:x", "localhost:", "x" * 5000)),
    *({"origin": value} for value in ("null", "http://evil.example", "http://127.0.0.1:1", "", "x" * 5000)),
    *({"cookie": value} for value in ("", "x", f"stcn-annotate-{PORT}=guess", "=;;;=" * 100, "\xff\xfe")),
    *({"content-type": value} for value in ("text/plain", "application/json", "multipart/form-data", "\xff")),
    *({"range": "bytes=0-"}, {"range": "bytes=9-1,x"}, {"if-none-match": "*"}, {"content-length": "-1"}),
)


class Asked(NamedTuple):
    kind: str
    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    full: bool = False  # nothing can be written


def labels(pixels: int) -> st.SearchStrategy[bytes]:
    values = st.sampled_from(([0], [0, 1], [1, 2], [255], [0, 254], [0, 3], [4], [8, 5], [11], list(range(256))))
    drawn = st.tuples(values, st.integers(0, 99)).map(
        lambda parts: np.random.default_rng(parts[1]).choice(parts[0], pixels).astype(np.uint8).tobytes()
    )
    blocks = st.tuples(st.integers(0, 40), st.integers(0, 30)).map(lambda place: square(place).tobytes())
    odd = st.sampled_from((b"", b"x", bytes(pixels - 1), bytes(pixels + 1), bytes(3 * pixels)))
    return st.one_of(drawn, blocks, blocks, odd)


SENSIBLE = {int: st.integers(0, 3), bool: st.booleans(), str: st.sampled_from(("overlay", "masks", "dog"))}


def fields(types: dict[str, type]) -> st.SearchStrategy[bytes]:
    right = st.fixed_dictionaries({}, optional={name: SENSIBLE[kind] for name, kind in types.items()})
    name, value = st.sampled_from((*types, *types, "x", "")), st.sampled_from((*VALUES, "overlay", "masks", "dog", True))
    table = st.one_of(right, st.dictionaries(name, value, max_size=3)).map(lambda found: json.dumps(found).encode())
    raw = st.sampled_from(
        (b"", b"{", b"[]", b"null", b"1e999", b"NaN", b"[" * 4000, b'"\xff"', b"\xff\xfe{\0}\0", b" " * 5000)
    )
    return st.one_of(table, table, raw, st.sampled_from(VALUES).map(lambda found: json.dumps(found).encode()))


def asked() -> st.SearchStrategy[Asked]:
    def of(entry: tuple[tuple[str, str], Any]) -> st.SearchStrategy[Asked]:
        (method, path), operation = entry
        body = labels(SIZE[0] * SIZE[1]) if operation.takes_labels else fields(dict(operation.body or {}))
        sensible = st.sampled_from(("0", "1", "2", "3"))
        number = st.one_of(*[sensible] * 9, st.sampled_from(NUMBERS))
        few = ("?since=0", "?since=x", f"?since={'9' * 5000}", "?token=x", "?run=1", "?name=a.png&size=1", "?name=../a&size=0")
        query = st.sampled_from((*[""] * 5, *["?page=1", "?page=2"] * 3, *few))
        methods = st.sampled_from((*[method] * 80, "GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "X"))
        headers = st.sampled_from((*[{}] * 200, *HEADERS)).map(lambda found: tuple(found.items()))

        def made(number: str, query: str, method: str, body: bytes, headers: tuple, full: int) -> Asked:
            place = path.replace("{frame}", number).replace("{object}", number).replace("{kind}", number)
            return Asked(f"{operation.name}", method, place + query, body, headers, full == 0)

        return st.builds(made, number, query, methods, body, headers, st.integers(0, 7))

    pages = st.sampled_from(
        ("/", "/page/main.js", "/page/../server.py", "/page/%2e%2e/server.py", "//etc/passwd", "/x" * 3000)
    )
    others = st.tuples(st.sampled_from(("GET", "HEAD", "POST", "TRACE")), pages).map(lambda parts: Asked("page", *parts))
    operations = st.sampled_from(sorted(OPERATIONS.items(), key=str)).flatmap(of)
    return st.one_of(*[operations] * 9, others)


def answer(app: Any, request: Asked) -> tuple[int, bytes]:
    """What the application says to a request."""
    path, _, query = request.path.partition("?")
    headers = {"host": f"127.0.0.1:{PORT}", "origin": f"http://127.0.0.1:{PORT}", "cookie": f"stcn-annotate-{PORT}={TOKEN}"}
    headers |= dict(request.headers)
    raw = quote(path, safe="/%", errors="surrogateescape")
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method, "scheme": "http"},
        **{"path": path, "raw_path": raw.encode(), "query_string": query.encode(), "root_path": ""},
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT)},
    }
    waiting = [{"type": "http.request", "body": request.body, "more_body": False}]
    sent: list[dict] = []

    async def receive() -> dict:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def main(words: Sequence[str] | None = None) -> int:
    good.stay_in_the_sandbox()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the sandbox's folder")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(words)
    root = arguments.folder.resolve()
    session = Session(root / "out", open_video(write_folder(root / "frames", LENGTH)), root / "frames")

    def no_network():
        raise InputError("no network here")

    worker = Worker(session, no_network)
    app = Gate(session_app(session, worker, cut_from_scribbles, lambda: False), TOKEN, "127.0.0.1", PORT)
    counts: Counter[str] = Counter()

    def state() -> str:
        return repr([session.objects, session.next_object, sorted(session.given.items())])

    def attempt(request: Asked) -> None:
        before = state()
        problems, status, body = [], 0, b""
        try:
            if request.full:
                with mock.patch("util.files.os.fsync", full_disk):
                    status, body = answer(app, request)
            else:
                status, body = answer(app, request)
        except Exception as error:
            problems.append(f"traceback: {type(error).__name__}: {str(error)[:200]}, {traceback.format_exc()[-400:]}")
        else:
            if status not in STATUSES | ({FULL} if request.full else set()):
                problems.append(f"status: {status} {body[:200]!r}")
            if status >= 400 and (b"\n" in body or len(body) > 1000):
                problems.append(f"text: {len(body)} bytes, {body[:200]!r}")
            if status >= 400 and state() != before:
                problems.append(f"changed: by a request that was answered {status}")
            saved = json.loads((root / "out/session.json").read_text())
            if [each["id"] for each in saved["objects"]] != [each.id for each in session.objects]:
                problems.append("saved: something else than there is")
        counts["cases"] += 1
        counts[f"kind {request.kind}{' on a full disk' * request.full}"] += 1
        counts[f"status {status}"] += 1
        for problem in problems:
            counts[problem.split(":")[0]] += 1
        if problems:
            print(f"FAILED {str(request)[:600]}", *problems, sep="\n          ", flush=True)

    quiet = settings(
        max_examples=arguments.cases,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        seed(arguments.seed)(quiet(given(asked())(attempt)))()
    finally:
        worker.stop()
        session.close()
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return int(any(not name.startswith(("cases", "status", "kind")) for name in counts))


if __name__ == "__main__":
    sys.exit(main())
