"""Hooks of MkDocs: files of the repository's root become pages, and headings have the anchors that GitHub makes."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository's root, and the pages that they become."""

ASSETS = ("CITATION.cff", "LICENSE")
LIST_ITEM = re.compile(r"^( *)(?:[-*]|\d+\.) ")
FENCE = re.compile(r"^ *```")


def slug(heading: str, separator: str) -> str:
    """Return the anchor of a heading as GitHub makes it; the pages link to these.

    >>> slug("The file `a.py`: what, and why?", "-")
    'the-file-apy-what-and-why'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def links_from_root(text: str) -> str:
    """Return the text of a file of the root with its links as they are seen from docs/.

    >>> links_from_root("[a](docs/a.md#b), [c](README.md), [d](LICENSE), [e](https://e.org)")
    '[a](a.md#b), [c](index.md), [d](LICENSE), [e](https://e.org)'
    """
    text = re.sub(r"\]\(docs/", "](", text)
    for name, page in PAGES.items():
        text = re.sub(rf"\]\({re.escape(name)}", f"]({page}", text)
    return text


def links_to_root(text: str) -> str:
    """Return the text of a page of docs/ in which links to files of the root lead to their pages.

    >>> links_to_root("[a](../README.md#b), [c](c.md)")
    '[a](index.md#b), [c](c.md)'
    """
    for name, page in PAGES.items():
        text = re.sub(rf"\]\(\.\./{re.escape(name)}", f"]({page}", text)
    return text


def as_python_markdown(text: str) -> str:
    """Return a page of GitHub's Markdown as Python-Markdown reads it: lists after a blank line, nested by 4 spaces.

    >>> as_python_markdown(chr(10).join(("Text:", "- a", "  - b"))).splitlines()
    ['Text:', '', '- a', '    - b']
    """
    lines, before, fenced = list[str](), "", False
    for line in text.splitlines():
        fenced ^= bool(FENCE.match(line))
        item = LIST_ITEM.match(line)
        if item and not fenced and not before.startswith("    "):
            depth = len(item[1])
            if depth == 0 and before.strip() and not LIST_ITEM.match(before) and not before.startswith(" "):
                lines.append("")
            elif depth in (2, 3):
                line = "    " + line.lstrip()
        lines.append(line)
        before = line
    return "\n".join(lines)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the anchors of headings."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository's root."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=links_from_root((ROOT / name).read_text())))
    for name in ASSETS:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Translate links to the root, and lists."""
    return as_python_markdown(links_to_root(markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let blocks of code be reached, and so scrolled, with the keyboard."""
    return html.replace("<pre>", '<pre tabindex="0">')
