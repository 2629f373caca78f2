"""The web server of a session: access control and the requests of the page."""

import asyncio
import contextlib
import gzip
import hashlib
import ipaddress
import itertools
import json
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from annotation.export import KINDS, export, export_path, zipped
from annotation.frames import Frames
from annotation.imported import import_files
from annotation.schema import BYTES, LARGEST_NUMBER, LARGEST_VERSION, OPERATIONS, TYPES, Operation
from annotation.session import Session
from annotation.worker import Worker
from dataset.own_video import mean_rate
from evaluation.cut import Cut
from util.errors import InputError, WriteError, one_line, shorten

PAGE = Path(__file__).with_name("page")
LONGEST_JSON, LARGEST_IMPORT = 4096, 64 << 20  # bytes
WAIT = 15.0  # seconds that a page waits for news
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Gate:
    """Admits requests that have the token and do not come from other web sites.

    The token is first in the address, as `?token=`, and then in a cookie.  `Host` must be a name that `host` allows, which
    stops DNS rebinding.  `Origin` must be the page itself, and requests that change something must have it.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self.app, self.token, self.host = app, token, host
        self.cookie = f"stcn-annotate-{port}"  # browsers do not tell ports apart
        self.tunnel = f"use a tunnel: ssh -L {port}:localhost:{port} MACHINE, and open http://localhost:{port}/?token=..."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            response = self._answer(Request(scope))
            await (response or self.app)(scope, receive, send)

    def _answer(self, request: Request) -> Response | None:
        """The refusal or redirection, if any."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._is_this_machine(host):
            name = shorten(self._name_in(host))
            return self._refused(f"This server has another name than {name}. If it is this machine, --host {name}; else")
        if origin != f"http://{host}" and (origin is not None or request.method not in ("GET", "HEAD")):
            return self._refused(f"Only the page itself may ask for this, not {shorten(origin or 'others')}. Behind a proxy,")
        given = request.query_params.get("token")
        if not self._is_token(given if given is not None else request.cookies.get(self.cookie)):
            what = "Open the whole address that annotate.py has printed, with its token."
            return self._refused(f"{what} If a proxy takes the token away,")
        if given is not None and request.url.path == "/":
            response = RedirectResponse("/", 303)
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
            return response
        return None

    def _refused(self, why: str) -> Response:
        """Why a request is refused, and the way that always works."""
        return PlainTextResponse(f"{why} {self.tunnel}", 403)

    def _is_token(self, text: str | None) -> bool:
        return text is not None and secrets.compare_digest(text.encode(), self.token.encode())

    @staticmethod
    def _name_in(header: str) -> str:
        """The name in a `Host` header, without a port, since another port may lead here through SSH."""
        if header.startswith("["):
            return header[1:].split("]")[0]
        return header.rsplit(":", 1)[0] if header.count(":") == 1 else header

    def _is_this_machine(self, header: str) -> bool:
        name = self._name_in(header)
        if name in (*LOOPBACK, self.host):
            return True
        if self.host not in ("0.0.0.0", "::"):
            return False
        if name == socket.gethostname():
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # a number: no name that could be made to point elsewhere


class Api:
    """The requests of the page.  They contain numbers only; paths come from the session."""

    def __init__(self, session: Session, worker: Worker, cut_from: Cut, ending: Callable[[], bool], listed: bool) -> None:
        self.session, self.worker, self.cut_from, self.ending = session, worker, cut_from, ending
        self.frames = Frames(session.video)
        self.exported = 0  # the revision of the last export
        self.steps: dict[int, int] = {}  # the last one of each page that was done
        self.image = lru_cache(maxsize=1)(session.video.frame)  # for one click after the other
        height, width = session.video.size
        key = hashlib.sha256(json.dumps([session.identity, str(session.root.resolve())]).encode()).hexdigest()
        self.video = {
            "name": Path(session.identity["path"]).name,
            "length": session.length,
            "height": height,
            "width": width,
            "rate": float(mean_rate(session.video)),
            "run": secrets.token_hex(4),  # so that no browser shows the frames of another video
            "key": key[:16],  # nor changes one
            "output": str(session.root),
            "listed": listed,
        }

    def routes(self) -> list[Route]:
        found = []
        for (method, path), operation in OPERATIONS.items():
            place = re.sub(r"\{(frame|object)\}", r"{\1:number}", path)
            endpoint = self.state if operation.name == "state" else partial(self._answer, operation)
            found.append(Route(place, endpoint, methods=[method]))
        return found

    async def state(self, request: Request) -> Response:
        """Wait for changes after a version, and return them."""
        since = _number(request.query_params.get("since", "0"))
        for _ in range(int(WAIT / 0.05)):
            if self.session.version != since or self.ending() or await request.is_disconnected():
                break
            await asyncio.sleep(0.05)
        news = await run_in_threadpool(self.session.changes, since)
        job = asdict(self.worker.job)  # after its version: a job that ends now is news again
        if self.exported != self.session.revision:
            job["link"] = ""  # masks have changed since
        news["job"] = job
        return JSONResponse({**news, "video": self.video} if since == 0 else news)

    async def _answer(self, operation: Operation, request: Request) -> Response:
        """Read what an operation takes, and call the method of its name with that, in a thread."""
        if request.headers.get("x-video", self.video["key"]) != self.video["key"]:
            raise InputError("this page shows another video: load it again")
        given: dict[str, Any] = dict(request.path_params)
        if operation.takes_labels:
            given["labels"] = await self._label_map(request)
        elif operation.takes_files:
            given["files"] = await _files(request)
        elif operation.body is not None:
            given |= await _fields(request, operation.body)
        if given.get("frame", 0) >= self.session.length:
            raise InputError(f"the frames are 0 to {self.session.length - 1}")
        given |= {name: _number(request.query_params.get(name, "0")) for name in operation.query}
        answer = await run_in_threadpool(getattr(self, operation.name), **given)
        return answer if isinstance(answer, Response) else JSONResponse(answer or {"version": self.session.version})

    async def _label_map(self, request: Request) -> np.ndarray:
        """Read a body with exactly one byte per pixel."""
        size = self.session.video.size
        count = size[0] * size[1]
        body = await _body(request, count)
        if len(body) != count:
            raise InputError(f"expected {count} bytes, found {len(body)}")
        return np.frombuffer(body, np.uint8).reshape(size)

    def frame(self, frame: int) -> Response:
        return Response(self.frames.jpeg(frame), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    def mask(self, frame: int) -> Response:
        return _labels(self.session.labels(frame))

    def give(self, frame: int, labels: np.ndarray, page: int, step: int, gone: int) -> None:
        self._once(page, step, lambda: self.session.draw(frame, labels, gone=gone, by=page))

    def forget(self, frame: int, page: int, step: int) -> None:
        self._once(page, step, lambda: self.session.forget(frame, by=page))

    def _once(self, page: int, step: int, action: Callable[[], None]) -> None:
        """Do a step of a page, unless it was done already and only the answer was lost."""
        with self.session.lock:
            if not step or self.steps.get(page, 0) < step:
                action()
                self.steps[page] = step

    def replaced(self, frame: int) -> Response:
        return _labels(self.session.replaced(frame))

    def restore(self, frame: int, page: int, step: int) -> None:
        self._once(page, step, lambda: self.session.restore(frame, by=page))

    def cut(self, frame: int, labels: np.ndarray) -> Response:
        """The mask that marks ask for; a pixel is 1 in the object's mask or box, 2 in another's, plus 4 or 8 on and off it."""
        if labels.max() > 10:
            raise InputError(f"expected what marks say, from 0 to 10, found {labels.max()}")
        return _labels(self.cut_from(self.image(frame), *(labels & bit != 0 for bit in (1, 2, 4, 8))).astype(np.uint8))

    def import_files(self, frame: int, files: list[tuple[str, bytes]], object: int, page: int) -> dict[str, str]:
        """Give the masks in files; what has no number is `object`."""
        if object and all(each.id != object for each in self.session.objects):
            raise InputError(f"there is no object {object}")
        frames = import_files(self.session, frame, files, object, by=page)
        return {"told": f"in frame {frames[0]}" if len(frames) == 1 else f"in {len(frames)} frames, from {min(frames)} on"}

    def add(self, name: str | None = None) -> dict[str, int]:
        return {"id": self.session.add_object(name or "").id}

    def change(self, object: int, **changes: Any) -> None:
        self.session.change_object(object, **changes)

    def remove(self, object: int, page: int) -> None:
        if self.worker.busy:
            raise InputError("busy: stop first, then remove the object")
        self.session.remove_object(object, by=page)
        with contextlib.suppress(InputError):  # another job has begun meanwhile; the object's pixels are never read
            self.worker.start("clean", self.worker.clean)

    def undo(self, page: int | None = None, again: bool | None = None) -> dict[str, Any]:
        step = self.session.undo(page or 0, again=bool(again))
        if step.removed is not None:
            return {"told": f"{step.removed[1].name} is there again; follow again", "frame": None}
        if step.restored is not None:
            return {"told": f"{step.restored.name} is removed again", "frame": None}
        told, frames = "done again" if again else "taken back", sorted(step.changes)
        if len(frames) > 1:
            return {"told": f"{told}, in {len(frames)} frames", "frame": None}
        return {"told": f"{told}, in frame {frames[0]}", "frame": frames[0]}

    def follow(self, first: int | None = None, last: int | None = None) -> None:
        """Follow all, or what the frames `first` to `last` need."""
        window = None
        if first is not None or last is not None:
            first, last = first or 0, self.session.length - 1 if last is None else last
            if not 0 <= first <= last < self.session.length:
                raise InputError(f"expected frames from 0 to {self.session.length - 1}, the first one first")
            window = range(first, last + 1)
        self.worker.start("follow", partial(self.worker.follow, window))

    def stop(self) -> None:
        self.worker.stop()

    def export(self, kind: str | None = None) -> None:
        if kind not in KINDS:
            raise InputError(f"kind: expected one of {', '.join(KINDS)}")
        self.worker.start("export", partial(self._export, kind))

    def _export(self, kind: str):
        revision = self.session.revision
        path = yield from export(self.session, kind, self.worker.progress)
        self.exported = revision
        self.session.save("export", kind=kind)
        lacks = self.session.what_lacks()
        self.worker.job.message = f"written: {path}" + (f" (of {self.session.length} frames, {lacks})" if lacks else "")
        self.worker.job.link = f"api/export/{kind}"

    def download(self, kind: str) -> Response:
        """What was exported; a folder as a zip."""
        if kind not in KINDS or not (path := export_path(self.session, kind)).exists() or path.is_symlink():
            raise InputError("export it first")
        path = zipped(path) if path.is_dir() else path
        return FileResponse(path, filename=path.name, media_type=BYTES, headers={"Cache-Control": "no-store"})


class TooLargeError(Exception):
    """The request's body is larger than such a request can need."""


def _failed(request: Request, error: Exception) -> Response:
    """What became of a request, in one line."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if isinstance(error, TooLargeError | ClientDisconnect):
        return JSONResponse({"error": "too large"}, 413)
    status = 507 if isinstance(error, WriteError) else 400 if isinstance(error, InputError) else 500
    return JSONResponse({"error": one_line(str(error))}, status)


async def _body(request: Request, most: int) -> bytes:
    result = bytearray()
    async for part in request.stream():
        result += part
        if len(result) > most:
            raise TooLargeError
    return bytes(result)


async def _fields(request: Request, types: Mapping[str, type]) -> dict[str, Any]:
    """Read a body of JSON with these fields, each of which may be missing or null."""
    try:
        found = json.loads(await _body(request, LONGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise InputError("expected JSON") from error
    if not isinstance(found, dict):
        raise InputError("expected an object of JSON")
    for key, value in found.items():
        if key not in types:
            raise InputError(f"expected {' or '.join(types)}, found another field")
        if value is not None and type(value) is not types[key]:
            raise InputError(f"{key}: expected a {TYPES[types[key]]}")
    return found


async def _files(request: Request) -> list[tuple[str, bytes]]:
    """Read files: each a `name` and a `size` of the query, and its part of the body."""
    query = request.query_params
    names, sizes = query.getlist("name"), [_number(size) for size in query.getlist("size")]
    body = await _body(request, LARGEST_IMPORT)
    if not names or len(names) != len(sizes) or sum(sizes) != len(body):
        raise InputError("expected files, each with its name and size")
    stops = itertools.accumulate(sizes)
    return [(name, body[stop - size : stop]) for name, size, stop in zip(names, sizes, stops, strict=True)]


class _Number(IntegerConvertor):
    """A number in a path; a longer one leads nowhere, before Python refuses to read it."""

    regex = f"[0-9]{{1,{len(str(LARGEST_NUMBER))}}}"


register_url_convertor("number", _Number())


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(LARGEST_VERSION)):
        raise InputError("expected a number")
    return int(text)


def _labels(labels: np.ndarray) -> Response:
    """(H, W) uint8 as compressed bytes."""
    headers = {"Content-Encoding": "gzip", "Cache-Control": "no-store"}
    return Response(gzip.compress(labels.tobytes(), 1), media_type=BYTES, headers=headers)


STATIC = Mount("/page", StaticFiles(directory=PAGE))
ERROR_HANDLERS: dict[Any, Any] = dict.fromkeys((InputError, OSError, HTTPException, TooLargeError, ClientDisconnect), _failed)


def session_app(
    session: Session, worker: Worker, cut_from: Cut, ending: Callable[[], bool], *, listed: bool = False
) -> ASGIApp:
    """The application of one session, behind a `Gate`.  Once `ending()` is true, no request waits any longer.

    cut_from: turns clicks, scribbles and boxes into masks
    listed:   there is a list of videos above
    """
    page = Route("/", lambda request: Response((PAGE / "index.html").read_bytes(), media_type="text/html", headers=HEADERS))
    routes = [page, STATIC, *Api(session, worker, cut_from, ending, listed).routes()]
    return Starlette(routes=routes, exception_handlers=ERROR_HANDLERS)
