"""`nelbo list`: every group and option, with the line that its config begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from nelbo.commands.list import lines
from nelbo.composing.descriptions import description, groups
from nelbo.composing.places import SHIPPED
from tests.helpers.forks import forked


def test_every_option_has_a_description() -> None:
    found = groups(SHIPPED)
    assert {"model", "data", "objective", "metrics", "picture"} <= set(found)
    files = {f"{file.parent.name}/{file.stem}" for file in SHIPPED.glob("*/*.yaml")}
    assert {f"{group}/{option}" for group, options in found.items() for option in options} == files
    assert [f"{group}={name}" for group, options in found.items() for name, text in options.items() if not text] == []


def test_the_list_says_what_can_be_typed() -> None:
    done = forked("scripts/list.py", "objective")
    assert done.returncode == 0 and done.stdout.startswith("objective=\n"), done.stderr
    assert "  elbo * " in done.stdout and "(Burda et al. 2016)" in done.stdout
    everything = forked("scripts/list.py")
    assert "model=\n" in everything.stdout and "  conv_vae *" in everything.stdout and done.stdout in everything.stdout
    wrong = forked("scripts/list.py", "modl")
    assert wrong.returncode == 2 and wrong.stderr.startswith(
        "error: group=modl: there is no such group; did you mean model?"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# @package model.x\n# One sentence. And\n# another.\nkey: 1\n", "One sentence"),
        ("# As of Child et al. 2021, with more.\n", "As of Child et al. 2021, with more"),
        ("key: 1  # not at the top\n", ""),
    ],
)
def test_the_first_sentence_is_the_description(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert description(tmp_path / "x.yaml") == expected


def test_descriptions_are_wrapped_to_the_terminal() -> None:
    made = lines("group", {"short": "word " * 30, "a_name_of_more_than_twenty_eight_letters": "text"}, "short", 80)
    assert made[0] == "group=" and made[1].startswith("  short *") and max(map(len, made)) <= 80
    assert made[-3].strip() == "a_name_of_more_than_twenty_eight_letters" and made[-2].strip() == "text"
