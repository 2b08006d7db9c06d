"""Headless Chromium, driven over the DevTools protocol through a pair of pipes."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
)
AS_3_AND_4 = (
    "import fcntl, os, sys; read, write = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]); "
    "os.dup2(read, 3); os.dup2(write, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""A program that becomes another one, with two open files as its files 3 and 4, which Chromium reads and writes."""


class Tab:
    """A page of a browser.

    Args:
        commands: the file to which commands are written.
        answers: the file from which answers are read.
    """

    def __init__(self, commands: Any, answers: Any) -> None:
        self._commands, self._answers = commands, answers
        self._numbers, self._session = itertools.count(1), ""
        self.errors: list[str] = []
        """Exceptions of the page's script, and what it wrote to the console as an error."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._read()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result

    def run(self, script: str) -> Any:
        """Return the value of an expression, which may be a promise."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def open(self, address: str, until: str) -> None:
        """Open an address and wait until an expression is true."""
        self.send("Page.navigate", url=address)
        self.wait(until)

    def wait(self, until: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        test = f"(() => {{ try {{ return Boolean({until}); }} catch {{ return false; }} }})()"
        loop = f"new Promise(done => {{ const look = () => {test} ? done(true) : setTimeout(look, 20); look(); "
        assert self.run(f"{loop} setTimeout(() => done(false), {1000 * seconds}); }})"), until

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the window a size, and choose the light or the dark style."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def mouse(self, kind: str, x: float, y: float, *, held: bool) -> None:
        """Press, move or release the left button of the mouse."""
        options: Mapping[str, Any] = {"button": "left", "buttons": int(held), "clickCount": int(kind != "mouseMoved")}
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **options)

    def key(self, name: str) -> None:
        """Press a key and release it."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def box(self, selector: str) -> dict[str, float]:
        """Return the place of an element in the window, scrolled into view: x, y, width and height."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{place}.scrollIntoView({{block: 'center'}})")
        box: dict[str, float] = self.run(f"{place}.getBoundingClientRect().toJSON()")
        return box

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Write a picture of the page."""
        done = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(done["data"]))

    def _read(self) -> dict[str, Any]:
        """Return the next message."""
        content = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            content += byte
        message: dict[str, Any] = json.loads(content)
        return message

    def _note(self, event: Mapping[str, Any]) -> None:
        """Keep errors of the page."""
        if event.get("method") == "Runtime.exceptionThrown":
            details = event["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"]["text"])


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """Start Chromium with an empty page, and end it afterwards.

    Args:
        profile: a folder for its files.
    """
    assert CHROMIUM is not None
    (to_read, to_write), (from_read, from_write) = os.pipe(), os.pipe()
    command = [sys.executable, "-c", AS_3_AND_4, str(to_read), str(from_write), CHROMIUM, *FLAGS]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={profile}"],
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        with os.fdopen(to_write, "wb") as commands, os.fdopen(from_read, "rb") as answers:
            yield Tab(commands, answers)
    finally:
        process.terminate()
        process.wait(30)
