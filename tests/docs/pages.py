"""The Markdown of the repository: its pages, headings, links and runnable blocks."""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from tests.support.environment import ROOT
from tests.tidy.sources import tracked_files

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_INLINE_CODE = re.compile(r"`[^`\n]*`")
#: Words after a fence's language: `runnable` blocks run against a live server.
RUNNABLE = "runnable"


@dataclass(frozen=True)
class Block:
    """A fenced block that a reader may copy into a shell or into Python."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return ROOT / self.name

    @cached_property
    def text(self) -> str:
        """Its text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def prose(self) -> str:
        """Its text without fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def anchors(self) -> set[str]:
        """What `page.md#…` may name: its headings as GitHub spells them."""
        found: set[str] = set()
        for title in _HEADING.findall(self.prose):
            bare = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
            slug = re.sub(r"[^\w\- ]", "", bare.lower()).strip().replace(" ", "-")
            number = 0
            while (unique := f"{slug}-{number}" if number else slug) in found:
                number += 1
            found.add(unique)
        return found

    @cached_property
    def links(self) -> list[str]:
        """Targets of its links and images, in order."""
        return _LINK.findall(_INLINE_CODE.sub("", self.prose))

    @cached_property
    def runnable(self) -> list[Block]:
        """Its blocks that are marked runnable."""
        return [
            Block(self.name, self.text.count("\n", 0, match.start()) + 1, match[1], match[3])
            for match in _FENCE.finditer(self.text)
            if RUNNABLE in match[2].split()
        ]


@lru_cache
def page(name: str) -> Page:
    """The page of that path from the root."""
    return Page(name)


def pages() -> list[Page]:
    """Every Markdown file of the repository."""
    return [page(name) for name in tracked_files() if name.endswith(".md")]
