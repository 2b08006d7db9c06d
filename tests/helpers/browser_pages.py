"""Pages in headless Chromium, driven over the DevTools protocol, and what axe-core says about them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = "axe-core@4.14.1"
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-sync --disable-dev-shm-usage"
    " --disable-background-networking --disable-component-update --remote-debugging-port=0"
).split()
SECONDS = 120

SMALL_TEXT = """(() => {
  const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement
    if (!text || element.closest("script, style, noscript") || !element.checkVisibility()) continue
    if (parseFloat(getComputedStyle(element).fontSize) < 12) found.push(text.slice(0, 40))
  }
  return found
})()"""
VIOLATIONS = """axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21aa"], resultTypes: ["violations"]}).then(
  (result) => result.violations.map((rule) => `${rule.id}: ${rule.nodes[0].html.slice(0, 200)}`))"""


def fetch_axe(folder: Path) -> str | None:
    """Return axe-core's script, from npm's registry; None if it cannot be fetched."""
    if shutil.which("npm") is None:
        return None
    done = subprocess.run(["npm", "pack", AXE], cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode != 0:
        return None
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


class Tab:
    """A tab of a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.sent = 0
        self.requested: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.sent += 1
        await self.socket.send_json({"id": self.sent, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=SECONDS)
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message.get("id") == self.sent:
                assert "error" not in message, message
                return message["result"]

    async def evaluate(self, script: str) -> Any:
        """Return the value of a script, or of its promise."""
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def show(self, address: str, width: int, scheme: str) -> None:
        """Show a page as a window of a width shows it to a reader who prefers a colour scheme."""
        await self.call("Page.enable")
        await self.call("Network.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call("Page.navigate", url=address)
        async with asyncio.timeout(SECONDS):
            while not await self.evaluate(f"location.href === '{address}' && document.readyState === 'complete'"):
                await asyncio.sleep(0.1)
        await asyncio.sleep(1)  # the theme's script finishes the page


@asynccontextmanager
async def open_tab(profile: Path) -> AsyncIterator[Tab]:
    """Start a browser with an empty profile, and end it afterwards."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(SECONDS):
            while not (port_file := profile / "DevToolsActivePort").is_file() or not port_file.read_text():
                await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as response:
                pages = [page for page in await response.json(content_type=None) if page["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        process.wait()
