"""A real browser for tests of pages: Chromium, without a window, asked over a pipe in its debugging protocol."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
_SECONDS = 240.0
"""After which a browser that says nothing has failed."""


def executable() -> str | None:
    """The browser's path; None: there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


needs_browser = pytest.mark.skipif(
    executable() is None, reason="no Chromium here; apt-get install chromium, or any of: " + ", ".join(_NAMES)
)


class Tab:
    """One page in a browser."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser, self._session = browser, session
        self.requested: list[str] = []
        """Addresses of everything that was loaded since it was opened."""
        self.errors: list[str] = []
        """What its console complained about."""
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol."""
        return self._browser.send(method, parameters, self._session, self._hear)

    def open(self, file: Path, width: int, *, dark: bool = False) -> None:
        """Load a file at a width in pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=file.as_uri())
        self._browser.hear("Page.loadEventFired", self._session, self._hear)

    def evaluate(self, expression: str) -> Any:
        """Value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, file: Path) -> None:
        """Save the whole page as PNG."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def _hear(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif event["method"] == "Log.entryAdded":
            self.errors.append(parameters["entry"]["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"]["text"])


class Browser:
    """A running browser; :func:`browsing` starts one."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number, self._rest = 0, b""

    def tab(self) -> Tab:
        """Open an empty page."""
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        return Tab(self, attached["sessionId"])

    def send(self, method: str, parameters: dict[str, Any], session: str = "", heard: Any = None) -> Any:
        """Call a method and return its result; events meanwhile go to ``heard``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]
            if heard is not None and "method" in found:
                heard(found)

    def hear(self, event: str, session: str, heard: Any) -> None:
        """Wait for an event of a page."""
        while True:
            found = self._next()
            if "method" in found:
                heard(found)
                if found["method"] == event and found.get("sessionId") == session:
                    return

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._back], [], [], _SECONDS)
            assert ready, f"the browser said nothing for {_SECONDS:g} s"
            data = os.read(self._back, 1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser, which asks nobody for anything by itself, and end it."""
    path = executable()
    assert path is not None
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}",
        ]  # fmt: skip
        # The protocol wants the descriptors 3 and 4.
        script = f'exec "$0" "$@" 3<&{to_read} 4>&{back_write}'
        process = subprocess.Popen(
            ["bash", "-c", script, path, *flags],
            pass_fds=(to_read, back_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(back_write)
        browser = Browser(to_write, back_read)
        try:
            yield browser
        finally:
            with contextlib.suppress(AssertionError, OSError):
                browser.send("Browser.close", {})
            os.close(to_write)
            os.close(back_read)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
