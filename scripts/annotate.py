"""Draw masks of objects in a video, follow them and correct the results, in the browser.

python scripts/annotate.py holiday.mp4 --output out/holiday      # prints an address; open it
python scripts/annotate.py films/ --output out                   # a list of films; each has its session in out/NAME

Everything is saved at once in --output; run the same command again to continue.
"""

import argparse
import os
import secrets
import socket
import sys
from pathlib import Path

from annotation.imported import import_masks
from annotation.saved import RECORD
from annotation.session import Session
from annotation.worker import Worker
from dataset.given_masks import add_mask_flags, open_with_masks
from dataset.own_video import add_video_flags, one_video, videos_in
from evaluation.cut import cut_by
from evaluation.flags import SCRIBBLE_MODEL, add_check_memory_flag, add_scribble_flag, add_segmenter_flags, note_enlarged
from evaluation.run import segmenter_by_flags
from model.checkpoint import digest
from util.device import device_of
from util.errors import InputError, one_line_errors, print_note
from util.files import one_line_for
from util.flags import Parser, int_between

SIZE = 480  # pixels, shorter side
LONGEST_HEAD = 1 << 20  # bytes of a request, which names the files that are imported


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    add_video_flags(result, several="to choose from: then their sessions are in --output/NAME")
    add_mask_flags(result)
    result.add_argument("--port", type=int_between(0, 65535), default=8765, help="of the server; 0 takes any free one")
    result.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; beyond 127.0.0.1 the connection is not encrypted, so prefer a tunnel: "
        "ssh -L 8765:localhost:8765 MACHINE",
    )
    add_scribble_flag(result)
    add_segmenter_flags(result, size=SIZE, max_memory_frames=20)
    add_check_memory_flag(result)
    return result


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises `InputError` if the address or the port is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror or error}; --port 0 takes any free port") from error


def open_session(arguments: argparse.Namespace, source: str, output: Path) -> tuple[Session, Worker]:
    """The session of a video in a folder, with the masks of `--mask` if it is new."""
    video, masks = open_with_masks(arguments, source, rate=arguments.fps)
    note_enlarged(arguments, video.size, SIZE)
    maker, settings = segmenter_by_flags(arguments, output / RECORD)
    session = Session(output, video, source, settings)
    if masks and not import_masks(session, masks):
        print_note(f"--mask is left out, since {output} has objects already")
    worker = Worker(session, maker, check_memory=arguments.check_memory == "on")
    if session.unclean:
        worker.start("clean", worker.clean)
    return session, worker


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    arguments.video = one_video(arguments.video)
    try:
        import uvicorn
        from starlette.types import ASGIApp

        from annotation.server import Gate, session_app
        from annotation.videos import videos_app
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; pip install -e '.[web]'") from error
    with one_line_for(arguments.output), listen(arguments.host, arguments.port) as listening:
        digest(arguments.model)  # fail early if it is missing
        folder, output = Path(arguments.video), Path(arguments.output)
        videos = videos_in(folder) if os.path.isdir(arguments.video) else {}
        if videos and arguments.mask:
            raise InputError(f"--mask: expected one video, found {folder} with {len(videos)}")
        opened: list[tuple[Session, Worker]] = []

        def open_one(source: str | Path, root: Path) -> ASGIApp:
            opened.append(open_session(arguments, str(source), root))
            return session_app(*opened[-1], cut_from, lambda: server.should_exit, listed=bool(videos))

        model = arguments.scribble_model
        absent = model == SCRIBBLE_MODEL and not Path(model).is_file()
        cut_from = cut_by("none" if absent else model, device_of(arguments.device))
        app = videos_app(folder, videos, output, open_one) if videos else open_one(arguments.video, output)
        token = secrets.token_urlsafe(24)
        port = listening.getsockname()[1]
        gate = Gate(app, token, arguments.host, port)
        config = uvicorn.Config(
            gate,
            log_level="warning",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=LONGEST_HEAD,
        )
        server = uvicorn.Server(config)
        name = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(f"http://{name}:{port}/?token={token}", flush=True)
        print("Ctrl-C ends it; everything is saved as you go.", file=sys.stderr)
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            pass
        finally:
            for session, worker in opened:
                worker.stop()
                session.close()


if __name__ == "__main__":
    sys.exit(main())
