"""A folder of videos in one server: the list of them, and each with its own session below its own address."""

import asyncio
import html
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from annotation.saved import RECORD
from annotation.server import ERROR_HANDLERS, HEADERS, STATIC
from annotation.state import Result, State
from util.errors import InputError, printable
from util.files import read_json
from util.guards import path_in

LIST = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8"><title>{title}</title>
  <link rel="icon" href="data:,"><link rel="stylesheet" href="/page/style.css">
</head>
<body class="list"><h1>{title}</h1><table>{rows}</table></body>
</html>"""
ROW = '<tr><td><a href="/{number}/">{name}</a><td>{done}'


def videos_app(folder: Path, videos: Mapping[str, Path], output: Path, open_video: Callable[[Path, Path], ASGIApp]) -> ASGIApp:
    """An application that lists videos by name and passes what is asked below `/0/`, `/1/`, ... to their applications.

    `open_video` makes one, of a video and the folder of its session in `output`, when it is asked for.
    """
    places = [(name, video, path_in(output, name, source=video)) for name, video in videos.items()]

    def listed(request: Request) -> Response:
        rows = (
            ROW.format(number=number, name=html.escape(printable(name)), done=html.escape(what_is_done(root)))
            for number, (name, _, root) in enumerate(places)
        )
        text = LIST.format(title=html.escape(printable(folder.name or "Videos")), rows="".join(rows))
        return Response(text, media_type="text/html", headers={**HEADERS, "Cache-Control": "no-store"})

    mounts = [Mount(f"/{i}", _OnDemand(lambda v=video, r=root: open_video(v, r))) for i, (_, video, root) in enumerate(places)]
    return Starlette(routes=[Route("/", listed), STATIC, *mounts], exception_handlers=ERROR_HANDLERS)


def what_is_done(root: Path) -> str:
    """What the session in a folder has come to, in words."""
    if not (root / RECORD).is_file():
        return "nothing yet"
    try:
        record = read_json(root / RECORD)
        state = State(len(record["results"]))
        state.read_record(record)
    except (InputError, KeyError, TypeError, ValueError, AttributeError):
        return f"{RECORD} cannot be read"
    followed, old = state.results.count(Result.FINAL), state.results.count(Result.OLD)
    counts = [
        f"{len(state.objects)} objects",
        f"{len(state.given)} masks given",
        f"{followed} of {state.length} frames followed",
    ]
    return ", ".join([*counts, *([f"{old} old"] if old else [])])


class _OnDemand:
    """An application that is made when it is first asked for."""

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make, self._made = make, None
        self._only_one = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._only_one:
            if self._made is None:
                self._made = await run_in_threadpool(self._make)
        await self._made(scope, receive, send)
