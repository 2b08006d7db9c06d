"""Runs side by side, with paired differences: on the same images they are known far better than either mean is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from nelbo.config.comparison import incomparable
from nelbo.evaluation.measure import SIZES, mean_and_error
from nelbo.finished.evaluation_file import Results

DETAILS = ("_se", *SIZES, "_gain")
"""Endings of keys that say how something was measured."""

NO_MATTER = ("extractor", "log_weights")
"""Settings that change no value, or of which the recipe says more."""


@dataclass(frozen=True)
class Cell:
    """One value of one run.

    Args:
        value: itself.
        error: its standard error over images, where there is one.
        difference: to the first run, where both may be compared.
        difference_error: the standard error of the mean of the differences on the same images.
    """

    value: float
    error: float | None = None
    difference: float | None = None
    difference_error: float | None = None


@dataclass
class Comparison:
    """A table of runs.

    Args:
        runs: their names; differences are to the first.
        rows: by key, a cell a run; None where a run has not got it.
        notes: what is not compared, and why.
    """

    runs: list[str]
    rows: dict[str, list[Cell | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For a file."""
        rows = {
            key: {run: vars(cell) for run, cell in zip(self.runs, cells, strict=True) if cell}
            for key, cells in self.rows.items()
        }
        return {"runs": self.runs, "differences_to": self.runs[0], "notes": self.notes, "values": rows}


def compare(results: Mapping[str, Results]) -> Comparison:
    """All numbers that at least two runs have, and the differences of those that were measured in the same way."""
    comparison = Comparison(list(results))
    problem = incomparable({name: result.values for name, result in results.items()})
    if problem:
        comparison.notes.append(f"no differences: {problem}")
    every = list(results.values())
    for measure in merged(result.measures for result in every):
        having = {name: result for name, result in results.items() if measure in result.measures}
        recipes = {name: how(result.measures[measure]) for name, result in having.items()}
        differing = [key for key in merged(recipes.values()) if len({str(r.get(key)) for r in recipes.values()}) > 1]
        if differing:
            told = "; ".join(
                f"{name} {', '.join(f'{key}={recipe.get(key)}' for key in differing)}"
                for name, recipe in recipes.items()
            )
            comparison.notes.append(f"no differences in {measure}: measured in different ways: {told}")
        paired = not problem and not differing
        keys = merged(result.measures[measure]["keys"] for result in having.values())
        for key in keys:
            if is_headline(key, recipes) and sum(is_number(result.values.get(key)) for result in every) > 1:
                comparison.rows[key] = [cell(key, result, every[0], paired=paired) for result in every]
    return comparison


def cell(key: str, result: Results, first: Results, *, paired: bool) -> Cell | None:
    """The value of `key` in one run, and its difference to the first if that is `paired`."""
    value = result.values.get(key)
    if not is_number(value):
        return None
    error = result.values.get(f"{key}_se")
    reference = first.values.get(key)
    if not paired or result is first or not is_number(reference):
        return Cell(value, error)
    ours, theirs = result.arrays.get(key), first.arrays.get(key)
    if ours is None or theirs is None:
        return Cell(value, error, value - reference)
    if ours.shape != theirs.shape:  # of different images: the differences would not be paired
        return Cell(value, error)
    return Cell(value, error, *mean_and_error(ours.double() - theirs.double()))


def how(measured: Mapping[str, Any]) -> dict[str, Any]:
    """All that must be equal between values that are compared: settings, and what else a measure says."""
    settings, recipe = measured["settings"], measured["recipe"]
    return {**{key: value for key, value in settings.items() if key not in NO_MATTER}, **recipe}


def merged(parts: Iterable[Iterable[str]]) -> list[str]:
    """All keys, each once, in order."""
    return list(dict.fromkeys(key for part in parts for key in part))


def is_headline(key: str, recipes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a key is a result, not how it was measured."""
    name = key.partition("/")[2]
    return not (name.endswith(DETAILS) or "_at_" in name or any(name in recipe for recipe in recipes.values()))


def is_number(value: object) -> TypeGuard[float]:
    """Whether it can be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool)
