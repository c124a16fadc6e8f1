"""The page at /ui in a window, and what a person does with it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from tests.browser.opened import Opened


@dataclass
class AskingPage(Opened):
    """The page, asked and read."""

    def answer(self, text: str) -> str:
        """Ask for one text's answer and read it."""
        self._ask(text)
        return self.shown("#said")

    def refused(self, text: str, place: str = "#problem") -> str:
        """Ask and read why there is no answer."""
        self._ask(text)
        return self.shown(place)

    def _ask(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.press("#text", "Control+Enter")
        self.page.locator("#question[aria-busy=false]").wait_for()

    def shown(self, place: str) -> str:
        """Wait for an element and read it."""
        found = self.page.locator(place)
        found.wait_for()
        return str(found.inner_text())

    def choose(self, body: str | bytes, name: str = "tickets.csv") -> None:
        """Choose a file of these bytes."""
        held = body.encode() if isinstance(body, str) else body
        self.page.set_input_files("#csv", {"name": name, "mimeType": "text/csv", "buffer": held})

    def saved(self, button: str = "#download") -> bytes:
        """Save a file and read its bytes."""
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_bytes()

    def rows(self) -> list[list[str]]:
        """Save the answers and read them as CSV."""
        return list(csv.reader(io.StringIO(self.saved().decode("utf-8-sig"), newline="")))


def parcels(count: int) -> str:
    """Make a file of texts about parcels."""
    return "id,text\r\n" + "".join(f"{row},my parcel {row}\r\n" for row in range(count))
