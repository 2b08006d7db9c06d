"""The page of the explorer, rendered by the templates beside this module."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nelbo.explorer.explored import STEPS, Explored
from nelbo.pictures.levels import describe_event

THUMBNAILS = 24
"""Images that the page shows to choose from."""

SCRIPTS = ("requests.js", "picture.js", "plane.js", "units.js", "run.js", "controls.js", "main.js")
"""The parts of the page's script, in the order in which they use each other."""


@dataclass(frozen=True)
class Page:
    """A page.

    Args:
        html: the page, which refers to no file elsewhere.
        policy: what the browser lets it do: its own script and style, and requests to where it comes from.
    """

    html: str
    policy: str


def page_of(runs: Sequence[Explored]) -> Page:
    """Return the page of one run or two."""
    made = environment()
    script = "".join(made.get_template(name).render() for name in SCRIPTS)
    style = made.get_template("style.css").render()
    first = runs[0]
    content = {
        "split": first.scene.split,
        "images": len(first.images),
        "thumbnails": first.scene.evenly_spaced(THUMBNAILS).tolist(),
        "steps": STEPS,
        "runs": [run_content(run) for run in runs],
    }
    # The script and the style are put into the page as they are; all other values are escaped.
    html = made.get_template("explorer.html").render(content=content, script=script, style=style)
    return Page(html, policy(script, style))


def run_content(run: Explored) -> dict[str, Any]:
    """Return the facts about a run that the page needs."""
    levels = [
        {"units": event[0], "is_map": len(event) == 3, "description": describe_event(event)}
        for event in run.model.events
    ]
    axes = {name: [values[0], values[-1]] for name, values in run.axes.items()}
    names = [str(name) for name in run.scene.classes]
    return {
        "name": run.scene.name,
        "levels": levels,
        "settings": axes,
        "labels": run.label_count,
        "classes": names,
    }


def policy(script: str, style: str) -> str:
    """Return a Content-Security-Policy that allows one script and one style, by their digests.

    Example:
        >>> policy("", "").split("; ")[0]
        "default-src 'none'"
    """
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    rules = (
        "default-src 'none'",
        f"script-src 'sha256-{digests[0]}'",
        f"style-src 'sha256-{digests[1]}'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return "; ".join(rules)


@functools.cache
def environment() -> Environment:
    """Return the environment of the templates, which escapes every value."""
    return Environment(
        loader=PackageLoader("nelbo.explorer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
