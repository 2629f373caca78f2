"""`download_model.py` against a server on this machine."""

import contextlib
import hashlib
import http.server
import threading

import download_model
import pytest
from conftest import run_script

from model import load_network
from model.released import RELEASED, Released
from util.errors import InputError


class Server(http.server.BaseHTTPRequestHandler):
    content, kind, ranges, breaks_after = b"", "application/octet-stream", True, None
    asked: list[str | None]

    def do_GET(self):
        first, asked = 0, self.headers.get("Range")
        type(self).asked.append(asked)
        if asked and self.ranges:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(self.content):
                return self.send_error(416)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(self.content) - first))
        self.send_header("Content-Type", self.kind)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # whoever does not want it hangs up
            self.wfile.write(self.content[first : self.breaks_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(light_file, monkeypatch):
    """The handler of a server whose only file is what `stcn` means."""
    kind = type("Handler", (Server,), {"content": light_file.read_bytes(), "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setitem(RELEASED, "stcn", Released(f"http://127.0.0.1:{running.server_port}/stcn", "nothing at all"))
        yield kind
        running.shutdown()


@pytest.fixture
def short(server, monkeypatch):
    """The same with a short file that is no network, but taken for one."""
    server.content = bytes(range(256)) * 20
    monkeypatch.setattr(download_model, "check", lambda path, expected: None)
    return server


def test_a_network_is_fetched_checked_and_not_fetched_again(server, tmp_path, capsys):
    for _ in range(2):
        assert run_script("download_model", "stcn", "--output", tmp_path / "saves") == 0
    assert (tmp_path / "saves/stcn.pth").read_bytes() == server.content
    assert [path.name for path in (tmp_path / "saves").iterdir()] == ["stcn.pth"]
    assert server.asked == [None]
    printed = capsys.readouterr().out
    assert printed.count(f"SHA-256 {hashlib.sha256(server.content).hexdigest()}") == 2
    assert "trained on nothing at all; licence: its authors'" in printed


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on_where_the_server_can(short, ranges, tmp_path, capsys):
    short.breaks_after, short.ranges = 1000, ranges
    assert run_script("download_model", "stcn", "--output", tmp_path) == 2
    assert f"broke off after 1000 of {len(short.content)} bytes" in capsys.readouterr().err
    short.breaks_after = None
    assert run_script("download_model", "stcn", "--output", tmp_path) == 0
    assert short.asked == [None, "bytes=1000-"]
    assert (tmp_path / "stcn.pth").read_bytes() == short.content


def test_a_longer_leftover_is_fetched_anew(short, tmp_path):
    (tmp_path / "stcn.pth.part").write_bytes(bytes(len(short.content)))
    assert run_script("download_model", "stcn", "--output", tmp_path) == 0
    assert (tmp_path / "stcn.pth").read_bytes() == short.content


def test_what_is_no_network_or_damaged_is_told_and_not_kept(server, tmp_path, capsys):
    def told(*flags) -> str:
        assert run_script("download_model", "stcn", "--output", tmp_path, *flags) == 2
        assert not (tmp_path / "stcn.pth").exists()
        return capsys.readouterr().err

    whole = server.content
    assert "expected SHA-256 abc, found" in told("--sha256", "ABC")
    middle = len(whole) // 2  # among the weights
    server.content = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    assert "expected an undamaged checkpoint" in told()
    server.kind = "text/html; charset=utf-8"
    assert "found a page (too many downloads today?); fetch it with a browser" in told()
    (tmp_path / "note.txt").write_text("no network")
    assert "note.txt: expected a checkpoint" in told("--from", tmp_path / "note.txt")


def test_without_a_network_the_message_says_what_to_do_and_a_file_is_taken(light_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RELEASED, "stcn", Released("http://127.0.0.1:9/stcn", "nothing"))
    assert run_script("download_model", "stcn", "--output", tmp_path) == 2
    assert "or fetch it with a browser, then pass --from FILE" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
    assert run_script("download_model") == 0
    assert "stcn      trained on nothing\n  http://127.0.0.1:9/stcn\n" in capsys.readouterr().out
    assert run_script("download_model", "stcn", "--output", tmp_path, "--from", light_file) == 0
    assert (tmp_path / "stcn.pth").read_bytes() == light_file.read_bytes()


def test_the_message_of_a_missing_checkpoint_names_the_command(tmp_path):
    with pytest.raises(
        InputError, match=r"stcn.pth: no such checkpoint; python scripts/data/download_model.py stcn fetches it"
    ):
        load_network(tmp_path / "stcn.pth")
    with pytest.raises(InputError, match=r"mine.pth: no such checkpoint$"):
        load_network(tmp_path / "mine.pth")


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_nothing_is_written_through_a_link_in_the_place_of_the_part(link, short, tmp_path):
    (tmp_path / "mine").write_text("mine")
    getattr(tmp_path / "stcn.pth.part", link)(tmp_path / "mine")
    assert run_script("download_model", "stcn", "--output", tmp_path) == 0
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "stcn.pth").read_bytes() == short.content
