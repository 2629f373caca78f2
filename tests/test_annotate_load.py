"""The page's server under many tabs: 50 clients, 10,000 requests."""

import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from annotate_server import Running
from films import SIZE, square, write_folder

pytest.importorskip("starlette", reason="the extra `web` is not installed")
pytest.importorskip("uvicorn", reason="the extra `web` is not installed")

CLIENTS, REQUESTS, LENGTH = 50, 10_000, 8


def taken(process: int) -> tuple[float, int]:
    """A process's resident MiB and the number of its open files."""
    status = Path(f"/proc/{process}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return resident / 1024, len(list(Path(f"/proc/{process}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux says what a process has taken")
def test_fifty_tabs_and_ten_thousand_requests(light_file, tmp_path):
    """All are answered, also while objects are followed and masks change; memory and open files do not grow with them."""
    write_folder(tmp_path / "frames", LENGTH)
    server = Running(tmp_path / "frames", tmp_path / "out", "--model", light_file, "--size", 48, "--threads", 1)
    assert server.ask("POST", "/api/object", {"name": "dog"})[0] == 200
    mask = bytes(square((4, 4)).tobytes())
    assert len(mask) == SIZE[0] * SIZE[1]
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
