"""Every paper that documentation, configs and docstrings cite is in docs/bibliography.md, with a link."""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

import pytest

from tests.helpers.forks import ROOT

BIBLIOGRAPHY = ROOT / "docs" / "bibliography.md"
ENTRY = re.compile(r"^- (.+?) ((?:19|20)\d\d)\. (.+?)(?=^- |\Z)", re.MULTILINE | re.DOTALL)
LINK = re.compile(
    r"https://arxiv\.org/abs/(?:\d{4}\.\d{4,5}|physics/\d{7})\)|https://doi\.org/10\.\d{4,}/\S+|https?://[\w./~?=#-]+"
)
WITHOUT_LINK = {"Kong", "Cover & Thomas"}

NAME = r"(?:(?:van den|van der) )?[A-Z][\w'-]+"
CITATION = re.compile(rf"({NAME})(,? et al\.| (?:&|and) {NAME}|),? \(?((?:19|20)\d\d)\b")
NO_AUTHORS = {"The", "In", "Since", "Until", "JPEG", "From", "Of"}
FOLDERS = {"src": "*.py", "conf": "*.yaml", "docs": "*.md"}
CITING = [file for folder, kind in FOLDERS.items() for file in sorted((ROOT / folder).rglob(kind))]


def plain(text: str) -> str:
    """Return a text without accents and line breaks: code is written without the former."""
    letters = unicodedata.normalize("NFKD", text.replace("ø", "o").replace("Ø", "O"))
    return re.sub(
        r"\s+#?\s*|JPEG 2000", " ", "".join(letter for letter in letters if not unicodedata.combining(letter))
    )


@functools.cache
def entries() -> tuple[tuple[str, str, str], ...]:
    """Return authors, year, and the rest of each entry."""
    return tuple((plain(authors), year, rest) for authors, year, rest in ENTRY.findall(BIBLIOGRAPHY.read_text()))


def cited_in(file: Path) -> set[tuple[str, str, str]]:
    """Return the citations in a file: first author, what follows, year."""
    found = {(first, more, year) for first, more, year in CITATION.findall(plain(file.read_text()))}
    return {citation for citation in found if citation[0] not in NO_AUTHORS}


def belongs(citation: tuple[str, str, str], authors: str, year: str) -> bool:
    """Return whether a citation may mean an entry: the first author of several, or the last two of a list."""
    first, more, cited = citation
    names = re.split(r", | & ", authors.removesuffix(" et al."))
    if cited != year:
        return False
    if "et al." in more:
        return names[0] == first and (len(names) > 2 or authors.endswith("et al."))
    if more:
        return names[-2:] == [first, re.sub(r"^ (?:&|and) ", "", more)]
    return names == [first]


@pytest.mark.parametrize(
    "file", [file for file in CITING if file != BIBLIOGRAPHY and cited_in(file)], ids=lambda file: file.name
)
def test_cited_papers_are_in_the_bibliography(file: Path) -> None:
    unknown = [
        f"{first}{more} {year}"
        for first, more, year in sorted(cited_in(file))
        if not any(belongs((first, more, year), authors, of) for authors, of, _ in entries())
    ]
    assert not unknown, f"{file.relative_to(ROOT)} cites {unknown}, which docs/bibliography.md lacks"


def test_every_entry_is_cited_has_a_link_and_its_place() -> None:
    assert len(entries()) > 100
    assert BIBLIOGRAPHY.read_text().count("\n- ") == len(entries())
    cited = {citation for file in CITING if file != BIBLIOGRAPHY for citation in cited_in(file)}
    for authors, year, rest in entries():
        assert authors in WITHOUT_LINK or LINK.search(rest), f"{authors} {year} has no link"
        known = authors == "Cover & Thomas" or any(belongs(citation, authors, year) for citation in cited)
        assert known, f"nothing cites {authors} {year}"
    names = [re.sub(r"^van de[nr] ", "", authors).lower() for authors, _, _ in entries()]
    firsts = [re.split(r", | & | et al", name)[0] for name in names]
    assert firsts == sorted(firsts)
