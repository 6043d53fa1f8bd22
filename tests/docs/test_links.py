"""Links between pages lead somewhere, and every page can be reached."""

from pathlib import PurePosixPath

import pytest

from tests.docs.pages import Page, page, pages
from tests.support.environment import ROOT

IMAGE_BYTES_MAX = 150_000


def _target(origin: Page, link: str) -> tuple[str, str]:
    """The path from the root and the anchor that a relative link names."""
    path, _, anchor = link.partition("#")
    if not path:
        return origin.name, anchor
    parts: list[str] = []
    for part in (PurePosixPath(origin.name).parent / path).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts), anchor


def _local(origin: Page) -> list[str]:
    return [link for link in origin.links if "://" not in link and not link.startswith("mailto:")]


@pytest.mark.parametrize("origin", pages(), ids=lambda found: found.name)
def test_each_link_names_a_file_and_a_heading(origin: Page) -> None:
    broken = []
    for link in _local(origin):
        path, anchor = _target(origin, link)
        if not (ROOT / path).exists() or (anchor and anchor not in page(path).anchors):
            broken.append(link)
    assert broken == []


def test_every_page_of_the_docs_is_linked_from_their_index() -> None:
    index = page("docs/README.md")
    linked = {_target(index, link)[0] for link in _local(index)}
    there = {found.name for found in pages() if found.name.startswith("docs/")}
    assert there - linked - {index.name} == set()


def test_images_are_small_and_used() -> None:
    images = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/images").iterdir()}
    shown = {_target(origin, link)[0] for origin in pages() for link in _local(origin)}
    assert images - shown == set()
    assert [name for name in images if (ROOT / name).stat().st_size > IMAGE_BYTES_MAX] == []
