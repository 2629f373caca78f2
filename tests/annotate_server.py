"""annotate.py as a process of its own, for tests."""

import http.client
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from forks import ForkedScript


class Running(ForkedScript):
    """annotate.py, once it listens."""

    def __init__(self, video: Path, output: Path, *flags: object, first: Callable[[], object] | None = None) -> None:
        words = ("annotate", video, "--output", output, "--port", "0", *flags)
        super().__init__(output.with_name(f"{output.name}.log"), *words, first=first)
        told = re.compile(r"(http://127.0.0.1:(\d+)/\?token=(\S+))\n")
        self.until(lambda: told.search(self.log.read_text()))
        self.address, port, self.token = told.search(self.log.read_text()).groups()
        self.port = int(port)

    def ask(self, method: str, path: str, body: bytes | dict | None = None, **headers: str) -> tuple[int, bytes]:
        """As the page asks, unless `headers` say otherwise; an empty one is left out."""
        host = f"127.0.0.1:{self.port}"
        own = {"Host": host, "Origin": f"http://{host}", "Cookie": f"stcn-annotate-{self.port}={self.token}", **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        connection.putrequest(method, path, skip_host=True)
        for name, value in own.items():
            if value:
                connection.putheader(name, value)
        if content is not None:
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
        response = connection.getresponse()
        return response.status, response.read()

    def state(self, since: int = 0) -> dict:
        status, body = self.ask("GET", f"/api/state?since={since}")
        assert status == 200
        return json.loads(body)

    def job(self) -> dict:
        """The job, once it has ended."""
        while (state := self.state())["job"]["running"]:
            time.sleep(0.05)
        return state["job"]

    def end(self, number: int = signal.SIGKILL) -> int:
        return self.kill(number)[0]
