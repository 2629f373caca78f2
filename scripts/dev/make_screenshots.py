"""Make the pictures of docs/annotate.md: use the page of annotate.py in headless Chromium, as a person would.

python scripts/dev/make_screenshots.py DAVIS/2016/JPEGImages/480p/soapbox --box 162 55 282 178 --output docs
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from util.errors import InputError, one_line_errors
from util.files import write_atomically
from util.flags import Parser, non_negative_int

SIZE = (1280, 720)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 900  # seconds for anything that takes long


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("video", help="a video file, or a folder of frames")
    result.add_argument(
        "--box", nargs=4, type=int, required=True, metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"), help="of the object"
    )
    result.add_argument("--frame", type=non_negative_int, default=0, help="in which the box is")
    result.add_argument("--output", default="docs", metavar="DIR", help="folder for annotate_*.jpg")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    try:
        from selenium import webdriver
    except ModuleNotFoundError as error:
        raise InputError("selenium is not installed; pip install -e '.[dev,web]'") from error
    driver = shutil.which("chromedriver")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not (driver and chromium):
        raise InputError("expected chromium and chromedriver on PATH; Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={SIZE[0]},{SIZE[1]}"):
        options.add_argument(flag)
    command = [sys.executable, Path(__file__).parents[1] / "annotate.py", arguments.video, "--port", "0", "--output"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([*map(str, command), f"{folder}/out"], stdout=subprocess.PIPE, text=True) as server,
        webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as browser,
    ):
        try:
            assert server.stdout is not None
            dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
            browser.get(server.stdout.readline().strip())
            use(browser, arguments.frame, arguments.box, Path(arguments.output))
        finally:
            server.terminate()


def use(browser, frame: int, box: list[int], output: Path) -> None:
    """Box the object, follow it half-way, and all the way, with a picture of each."""
    from selenium.webdriver.common.action_chains import ActionChains

    def until(condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise InputError(f"the page did not get on: {browser.find_element('id', 'message').text}")
            time.sleep(0.1)

    def picture(name: str) -> None:
        time.sleep(0.5)
        image = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        path = output / f"annotate_{name}.jpg"
        write_atomically(path, lambda file: image.save(file, format="JPEG", quality=85))
        print(path)

    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False}
    )
    ready = "return document.body.dataset.ready"
    until(lambda: browser.execute_script(ready) == "0" and browser.find_elements("css selector", "li.chosen"))
    field = browser.find_element("id", "number")
    field.clear()
    field.send_keys(f"{frame}\n")
    until(lambda: browser.execute_script(ready) == str(frame))
    rect = browser.execute_script("return document.getElementById('labels').getBoundingClientRect()")
    scale = rect["width"] / browser.execute_script("return document.getElementById('labels').width")
    corners = [(rect["left"] + scale * x, rect["top"] + scale * y) for x, y in (box[:2], box[2:])]
    browser.find_element("css selector", "[data-tool=box]").click()
    actions = ActionChains(browser)
    for press, (x, y) in zip(("click_and_hold", "release"), corners, strict=True):
        actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        getattr(actions, press)()
    actions.perform()
    until(lambda: "Found" in browser.find_element("id", "message").text)
    until(lambda: browser.find_element("id", "saved").text == "saved")
    picture("draw")
    browser.find_element("id", "follow").click()
    length = browser.execute_script("return Number(document.getElementById('number').max) + 1")
    progress = "const p = document.getElementById('progress'); return p.hidden ? 1 : p.value / p.max"
    until(lambda: 0.4 < browser.execute_script(progress) < 1 or length < 5)
    picture("follow")
    until(lambda: browser.find_element("id", "follow").is_displayed())
    browser.find_element("id", "least").click()
    until(
        lambda: (
            browser.execute_script(ready) == browser.execute_script("return String(document.getElementById('number').value)")
        )
    )
    picture("correct")


if __name__ == "__main__":
    sys.exit(main())
