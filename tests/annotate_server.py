"""annotate.py as users start it, for tests."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from conftest import ROOT


class Running:
    """annotate.py as a process of its own."""

    def __init__(self, video: Path, output: Path, *flags: object) -> None:
        command = [sys.executable, ROOT / "scripts/annotate.py", video, "--output", output, "--port", "0", *flags]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, env=environment, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.address
        self.port = urlsplit(self.address).port
        self.token = parse_qs(urlsplit(self.address).query)["token"][0]

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

    def wait(self) -> dict:
        """The job, once it has ended."""
        while (state := self.state())["job"]["running"]:
            time.sleep(0.05)
        return state["job"]

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)
