"""A window of the browser: what it shows, what the browser said meanwhile, and which addresses it asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

DESK = 1000
TEXTS = """() => {
  const shown = [];
  const colour = (value) => value.match(/[\\d.]+/g).map(Number);
  const light = (value) => {
    const [r, g, b] = colour(value).slice(0, 3).map(each => { const c = each / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let each = node; each; each = each.parentElement) {
      if (each.tagName === 'text' && each.previousElementSibling && each.previousElementSibling.classList.contains('cell') && each.classList.contains('inside'))
        return getComputedStyle(each.previousElementSibling).fill;
      const value = getComputedStyle(each).backgroundColor;
      if ((colour(value)[3] ?? 1) > 0.99) return value;
    }
    return 'rgb(255, 255, 255)';
  };
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(each => each.nodeType === 3 && each.textContent.trim());
    if (!own || node.tagName === 'title' || !node.getClientRects().length) continue;
    const style = getComputedStyle(node), front = light(node.tagName === 'text' ? style.fill : style.color), back = light(ground(node));
    const [high, low] = front > back ? [front, back] : [back, front];
    const scale = node.tagName === 'text' ? node.getScreenCTM().a : 1;
    const turned = node.tagName === 'text' && node.getScreenCTM().b !== 0;
    shown.push({ text: node.textContent.trim().slice(0, 60), contrast: (high + 0.05) / (low + 0.05), size: parseFloat(style.fontSize) * (turned ? 1 : scale) });
  }
  return shown;
}"""
"""Script: each text that is shown, with its contrast and its size in pixels."""
SHOTS = "BERTSMITH_SCREENSHOTS"
"""Environment variable: a folder for a picture of each page, to be looked at."""


@dataclass
class Opened:
    """A page that was opened, what the browser said of it, and the addresses it asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Note what the page says and asks for from now on; a dialog is closed."""
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def picture(self, name: str) -> None:
        """Keep a picture where one is wanted."""
        folder = os.environ.get(SHOTS)
        if folder:
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


Kind = TypeVar("Kind", bound=Opened)


@contextmanager
def windows(browser: Any, kind: type[Kind]) -> Iterator[Callable[..., Kind]]:
    """Give a function that opens windows of some width, light or dark; all are closed at the end."""
    contexts = []

    def opened(address: str, *, width: int = DESK, dark: bool = False, **more: Any) -> Kind:
        theme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **more)
        context.set_default_timeout(15_000)
        contexts.append(context)
        found = kind(context.new_page())
        found.listen()
        found.page.goto(address)
        return found

    try:
        yield opened
    finally:
        for each in contexts:
            each.close()
