"""The server of annotate.py: who is let in, what it says to odd requests, and how many it bears."""

import gzip
import io
import json
import re
import shutil
import signal
import socket
import statistics
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from annotate_server import Running
from films import SIZE, square, write_folder

from util.errors import WriteError
from util.label_map import read_label_map

pytest.importorskip("starlette", reason="the extra `web` is not installed")
pytest.importorskip("uvicorn", reason="the extra `web` is not installed")


from annotation import server as server_module

LENGTH = 6


@pytest.fixture(scope="module")
def flags(light_file) -> tuple:
    return ("--model", light_file, "--size", 48, "--scribble_model", "none")


@pytest.fixture(scope="module")
def server(flags, tmp_path_factory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    running = Running(write_folder(folder / "frames", LENGTH), folder / "out", *flags)
    yield running
    running.end()


@pytest.fixture
def start(flags, tmp_path) -> Iterator[Callable[..., Running]]:
    """Starts a server for a video, whose session is in `out`."""
    started = []

    def begin(video: Path, *more: object) -> Running:
        started.append(Running(video, tmp_path / "out", *flags, *more))
        return started[-1]

    yield begin
    for each in started:
        each.end()


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Cookie": ""}, "with its token"),
        ({"Cookie": "stcn-annotate=guess"}, "with its token"),
        ({"Host": "evil.example"}, "another name"),
        ({"Host": "lab.example:8765"}, "--host lab.example; else use a tunnel: ssh -L "),
        ({"Host": "evil.example:8765", "Origin": "http://evil.example:8765"}, "another name"),
        ({"Host": ""}, ""),
        ({"Origin": "http://evil.example"}, "only the page itself"),
        ({"Origin": "https://127.0.0.1"}, "behind a proxy, use a tunnel: ssh -L "),
        ({"Origin": "null"}, "only the page itself"),
        ({"Origin": "http://127.0.0.1:1"}, "only the page itself"),
    ],
)
def test_strangers_are_refused_everything(headers, told, server):
    for method, path in (("GET", "/"), ("GET", "/page/main.js"), ("GET", "/api/state"), ("POST", "/api/follow")):
        status, body = server.ask(method, path, **headers)
        assert status in (400, 403)
        assert told.lower() in body.decode().lower()


@pytest.mark.parametrize(
    ("listens_at", "asked", "admitted"),
    [
        ("127.0.0.1", "localhost:8765", True),
        ("127.0.0.1", "[::1]:8765", True),
        ("127.0.0.1", "192.168.1.4:8765", False),
        ("lab.example", "lab.example", True),
        ("lab.example", "192.168.1.4", False),
        ("0.0.0.0", "192.168.1.4:8765", True),
        ("0.0.0.0", f"{socket.gethostname()}:8765", True),
        ("0.0.0.0", "evil.example:8765", False),
        ("::", "[fe80::1]:8765", True),
        ("::", "fe80::1", True),
        ("::", "[evil.example]:8765", False),
        ("0.0.0.0", "", False),
    ],
)
def test_a_name_is_admitted_only_if_nobody_else_can_point_it_here(listens_at, asked, admitted):
    assert server_module.Gate(None, "token", listens_at, 8765)._is_this_machine(asked) == admitted


def test_nothing_is_changed_without_an_origin(server):
    assert server.ask("GET", "/api/frame/0", Origin="")[0] == 200
    assert server.ask("POST", "/api/follow", Origin="")[0] == 403


def test_a_page_of_another_video_changes_nothing(server):
    key = server.state()["video"]["key"]
    status, body = server.ask("POST", "/api/object", {"name": "x"}, **{"X-Video": "0" * 16})
    assert (status, json.loads(body)["error"]) == (400, "this page shows another video: load it again")
    assert not any(each["name"] == "x" for each in server.state()["objects"])
    assert server.ask("POST", "/api/stop", b"", **{"X-Video": key})[0] == 200


def test_the_address_leads_to_a_page_with_a_cookie_and_without_the_token(server):
    status, _ = server.ask("GET", f"/?token={server.token}", Cookie="", Origin="")
    assert status == 303
    assert server.ask("GET", "/?token=guess", Origin="")[0] == 403
    status, body = server.ask("GET", "/", Origin="")
    assert status == 200
    for name in re.findall(rb'(?:src|href)="(/page/[^"]+)"', body):
        assert server.ask("GET", name.decode(), Origin="")[0] == 200


def test_the_policy_admits_the_icon():
    assert 'rel="icon" href="data:,"' in (server_module.PAGE / "index.html").read_text()
    assert "data:" in re.search("img-src([^;]*);", server_module.HEADERS["Content-Security-Policy"])[1]


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/page/..%2fserver.py",
        "/api/frame/..%2f..",
        "/api/mask/../1",
        "/session.json",
    ],
)
def test_no_path_leads_out_of_the_page(path, server):
    assert server.ask("GET", path)[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"/api/frame/{LENGTH}", None, 400),
        ("GET", "/api/frame/-1", None, 404),
        ("GET", "/api/state?since=x", None, 400),
        ("PUT", "/api/mask/0", bytes(SIZE[0] * SIZE[1] - 1), 400),
        ("PUT", "/api/mask/0", bytes(SIZE[0] * SIZE[1] + 1), 413),
        ("PUT", "/api/mask/0", b"\x09" * (SIZE[0] * SIZE[1]), 400),
        ("PUT", "/api/mask/0?gone=9", b"\xff" * (SIZE[0] * SIZE[1]), 400),
        ("PUT", "/api/mask/0?page=x", b"\xff" * (SIZE[0] * SIZE[1]), 400),
        ("GET", "/api/replaced/0", None, 400),
        ("POST", "/api/replaced/0", b"", 400),
        ("POST", "/api/undo", {"page": 5}, 400),
        ("POST", "/api/follow", {"first": 3, "last": LENGTH}, 400),
        ("POST", "/api/follow", {"first": 3, "last": 2}, 400),
        ("POST", "/api/undo", {"page": "5"}, 400),
        ("GET", f"/api/frame/{'9' * 5000}", None, 404),
        ("DELETE", f"/api/object/{'9' * 5000}", None, 404),
        ("POST", "/api/object", {"nam": "x"}, 400),
        ("PATCH", "/api/object/1", {"hidden": 1}, 400),
        ("POST", "/api/cut/0", b"\x0b" * (SIZE[0] * SIZE[1]), 400),
        ("POST", "/api/import/0", b"", 400),
        ("POST", "/api/import/0?name=a.png&size=9", b"12345678", 400),
        ("POST", "/api/import/0?name=a.png&size=3", b"GIF", 400),
        ("POST", "/api/import/0?name=a.png&size=3&object=9", b"GIF", 400),
        ("POST", "/api/object", {"name": "x" * 5000}, 413),
        ("POST", "/api/object", b"[1", 400),
        ("POST", "/api/object", b"[" * 4000, 400),
        ("PATCH", "/api/object/99", {"name": "x"}, 400),
        ("DELETE", "/api/object/99", None, 400),
        ("POST", "/api/export", {"kind": "../../etc"}, 400),
        ("GET", "/api/export/masks", None, 400),
        ("TRACE", "/", None, 405),
    ],
)
def test_odd_requests_are_told_what_is_expected(method, path, body, status, server):
    before = server.state()
    found, text = server.ask(method, path, body)
    assert found == status, text
    assert server.state()["version"] == before["version"]


def test_what_cannot_be_saved_is_told_apart_from_what_cannot_be():
    answers = [server_module._failed(cast(Any, None), error) for error in (WriteError("a: full"), OSError(5, "broken", "b"))]
    assert [answer.status_code for answer in answers] == [507, 500]
    assert [json.loads(bytes(answer.body))["error"] for answer in answers] == ["a: full", "[Errno 5] broken: 'b'"]


def test_scribbles_become_a_mask_that_leaves_other_objects_alone(server):
    told = np.zeros(SIZE, np.uint8)
    told[20:60, 20:60] = 1  # the mask so far
    told[20:60, 60:80] = 2  # another object
    told[30:34, 30:66] |= 4  # on the object, and into the other
    told[50:54, 30:50] |= 8
    status, body = server.ask("POST", "/api/cut/0", told.tobytes())
    assert status == 200
    found = np.frombuffer(gzip.decompress(body), np.uint8).reshape(SIZE)
    assert set(np.unique(found)) == {0, 1}
    assert found[told & 4 != 0].all()
    assert not found[(told & 8 != 0) | (told == 2)].any()


def test_a_mask_goes_there_and_back_and_a_killed_server_goes_on(start, tmp_path):
    frames = write_folder(tmp_path / "frames", LENGTH)
    server = start(frames)
    assert json.loads(server.ask("POST", "/api/object", {"name": "dog"})[1]) == {"id": 1}
    assert server.ask("PUT", "/api/mask/2", square((4, 4)).tobytes())[0] == 200
    server.end(signal.SIGKILL)
    np.testing.assert_array_equal(read_label_map(tmp_path / "out/given/2.png").labels, square((4, 4)))
    server = start(frames)
    assert server.state()["given"] == [2]
    _, body = server.ask("GET", "/api/mask/2")
    assert gzip.decompress(body) == square((4, 4)).tobytes()
    server.ask("POST", "/api/follow", {})
    assert server.job()["done"] == 3 + 4
    state = server.state()
    assert [entry[1] for entry in state["frames"]] == ["f"] * LENGTH
    since = state["version"]
    server.ask("PATCH", "/api/object/1", {"hidden": True})
    news = server.state(since)  # what a second tab hears
    assert news["objects"][0]["hidden"]
    assert not news["frames"]
    server.ask("POST", "/api/export", {"kind": "overlay"})
    status, film = server.ask("GET", f"/{server.job()['link']}")
    assert (status, film) == (200, (tmp_path / "out/export/overlay.mp4").read_bytes())
    server.ask("POST", "/api/export", {"kind": "masks"})
    job = server.job()
    assert job["message"].endswith("export/masks")
    with zipfile.ZipFile(io.BytesIO(server.ask("GET", f"/{job['link']}")[1])) as archive:
        assert archive.namelist() == [*sorted(f"masks/{t}.png" for t in range(LENGTH)), "masks/objects.csv"]
        assert archive.read("masks/2.png") == (tmp_path / "out/export/masks/2.png").read_bytes()
    server.ask("PUT", "/api/mask/3", square((9, 9)).tobytes())
    assert not server.state()["job"]["link"]  # what was exported is no longer so
    assert server.end(signal.SIGINT) == 0


def test_a_folder_of_videos_is_a_list_and_each_has_its_own_session(start, tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    for name, length in (("a <b>", 2), ("dog", LENGTH)):
        write_folder(folder / name, length)
    server = start(folder)
    text = server.ask("GET", "/")[1].decode()
    rows = re.findall('<a href="(/[0-9]/)">(.*?)</a><td>(.*)', text.replace("<tr>", "\n"))
    assert rows[0] == ("/0/", "a &lt;b&gt;", "nothing yet")
    assert not (tmp_path / "out/dog").exists()
    assert server.ask("GET", "/1/")[0] == 200
    state = json.loads(server.ask("GET", "/1/api/state?since=0")[1])
    assert (state["video"]["name"], state["video"]["length"], state["video"]["listed"]) == ("dog", LENGTH, True)
    assert server.ask("POST", "/1/api/object", {"name": "x"})[0] == 200
    assert server.ask("PUT", "/1/api/mask/2", square((4, 4)).tobytes())[0] == 200
    assert f"1 objects, 1 masks given, 0 of {LENGTH} frames followed" in server.ask("GET", "/")[1].decode()
    for damaged in ('{"results": "r"}', "[]", "half of "):
        (tmp_path / "out/a <b>").mkdir(exist_ok=True)
        (tmp_path / "out/a <b>/session.json").write_text(damaged)
        assert "session.json cannot be read" in server.ask("GET", "/")[1].decode()
    shutil.rmtree(tmp_path / "out/a <b>")
    assert server.ask("GET", "/2/")[0] == 404
    assert (tmp_path / "out/dog/given/2.png").exists()
    assert not (tmp_path / "out/a <b>").exists()
    write_folder(tmp_path / "out/a <b>", 1)
    status, told = server.ask("GET", "/0/api/state?since=0")
    assert (status, b"expected a new folder or a session" in told) == (400, True)
    assert server.end(signal.SIGINT) == 0


def test_what_cannot_be_is_told_in_one_line(script, light_file, tmp_path, capsys):
    frames = write_folder(tmp_path / "frames", 2)
    command = ("annotate", frames, "--model", light_file, "--port", 0, "--output")
    assert script(*command, frames) == 2
    assert "expected a new folder or a session, found 0.png" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert script(*command, tmp_path / "out", "--port", taken.getsockname()[1]) == 2
    assert "--port 0 takes any free port" in capsys.readouterr().err
    assert script(*command, tmp_path / "out", "--scribble_model", light_file) == 2
    assert "expected a scribble network" in capsys.readouterr().err
    assert script("annotate", tmp_path / "none.mp4", *command[2:], tmp_path / "out") == 2
    assert "none.mp4: no such video" in capsys.readouterr().err
    (tmp_path / "films").mkdir()
    write_folder(tmp_path / "films/cat", 2)
    assert script("annotate", tmp_path / "films", *command[2:], tmp_path / "out", "--mask", "0.png") == 2
    assert "--mask: expected one video, found " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# many tabs

CLIENTS, REQUESTS = 50, 10_000


def taken(process: int) -> tuple[float, int]:
    """A process's resident MiB and the number of its open files."""
    status = Path(f"/proc/{process}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return resident / 1024, len(list(Path(f"/proc/{process}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux says what a process has taken")
def test_fifty_tabs_and_ten_thousand_requests(start, tmp_path):
    """All are answered, also while objects are followed and masks change; memory and open files do not grow with them."""
    server = start(write_folder(tmp_path / "frames", LENGTH), "--threads", 1)
    assert server.ask("POST", "/api/object", {"name": "dog"})[0] == 200
    mask = square((4, 4)).tobytes()
    assert server.ask("PUT", "/api/mask/0", mask)[0] == 200
    assert server.ask("POST", "/api/follow", {})[0] == 200

    def tab(client: int, requests: int) -> list[tuple[int, float]]:
        """What a tab asks: mostly frames and masks, now and then the state, a new mask and a new name."""
        answers = []
        for number in range(requests):
            begin = time.perf_counter()
            frame = (client + number) % LENGTH
            if number % 50 == 49 and client % 10 == 0:
                status = server.ask("PUT", f"/api/mask/{frame}", mask)[0]
            elif number % 50 == 24:
                status = server.ask("PATCH", "/api/object/1", {"name": f"dog {client}"})[0]
            else:
                what = ("frame", "mask", "frame")[number % 3] if number % 10 else "state"
                status = server.ask("GET", "/api/state?since=0" if what == "state" else f"/api/{what}/{frame}")[0]
            answers.append((status, time.perf_counter() - begin))
        return answers

    def waits(stop: threading.Event) -> int:
        """The other half of a tab: it waits for news, again and again."""
        version = 0
        while not stop.is_set():
            version = server.state(version)["version"]
        return version

    stop = threading.Event()
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        waiting = [pool.submit(waits, stop) for _ in range(CLIENTS)]
        list(pool.map(tab, range(CLIENTS), [20] * CLIENTS))  # until caches are full
        mib, files = taken(server.processes[0].pid)
        begin = time.perf_counter()
        answers = [answer for found in pool.map(tab, range(CLIENTS), [REQUESTS // CLIENTS] * CLIENTS) for answer in found]
        seconds = time.perf_counter() - begin
        later_mib, later_files = taken(server.processes[0].pid)
        stop.set()
        server.ask("PATCH", "/api/object/1", {"name": "the end"})
        assert all(future.result(60) > 0 for future in waiting)
    statuses = {status: sum(status == other for other, _ in answers) for status in {status for status, _ in answers}}
    slowest = statistics.quantiles([took for _, took in answers], n=100)[-1]
    print(
        f"{len(answers) / seconds:.0f} requests/s, 99 % within {slowest:.2f} s; {mib:.0f} -> {later_mib:.0f} MiB, {statuses}"
    )
    assert statuses == {200: REQUESTS}
    assert later_mib < mib + 64
    assert later_files <= files + 2 * CLIENTS
    assert server.ask("POST", "/api/follow", {})[0] == 200
    assert not server.job()["failed"]
    assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
