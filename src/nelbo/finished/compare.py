"""Runs side by side, with paired differences.

On the same images the mean of the differences has a much smaller standard error than the difference of the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from nelbo.config.comparison import incomparable, unchecked
from nelbo.evaluation.measure import SIZES, mean_and_error
from nelbo.finished.evaluation_file import Results

DETAILS = ("_se", *SIZES, "_gain")
"""Endings of keys that describe how a value was measured."""

IRRELEVANT_SETTINGS = ("extractor", "log_weights")
"""Settings that change no value, or that the recipe describes in more detail."""


@dataclass(frozen=True)
class Cell:
    """One value of one run.

    Args:
        value: the value.
        error: its standard error over images, if known.
        difference: the value minus that of the first run, where the two are comparable.
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
        runs: the names of the runs; differences are to the first.
        rows: a cell for each run, by key; None where a run lacks the value.
        notes: which values are not compared, and why.
        setting: the setting that the models are bound to, if they were trained for many.
    """

    runs: list[str]
    rows: dict[str, list[Cell | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    setting: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the table as plain containers, for a JSON file."""
        rows = {
            key: {run: vars(cell) for run, cell in zip(self.runs, cells, strict=True) if cell}
            for key, cells in self.rows.items()
        }
        setting = {"at": self.setting} if self.setting else {}
        return {"runs": self.runs, **setting, "differences_to": self.runs[0], "notes": self.notes, "values": rows}


def compare(results: Mapping[str, Results]) -> Comparison:
    """Compare runs by all numbers that at least two of them have.

    Differences are computed where the data and the way of measuring are the same.

    Args:
        results: the results of the runs, by name.
    """
    comparison = Comparison(list(results))
    values = {name: result.values for name, result in results.items()}
    if problem := incomparable(values):
        comparison.notes.append(f"no differences: {problem}")
    elif doubt := unchecked(values):
        comparison.notes.append(doubt)
    every = list(results.values())
    for measure in merged(result.measures for result in every):
        measured = {name: result for name, result in results.items() if measure in result.measures}
        recipes = {name: conditions(result.measures[measure]) for name, result in measured.items()}
        differing = [key for key in merged(recipes.values()) if len({str(r.get(key)) for r in recipes.values()}) > 1]
        if differing:
            settings = "; ".join(
                f"{name} {', '.join(f'{key}={recipe.get(key)}' for key in differing)}"
                for name, recipe in recipes.items()
            )
            comparison.notes.append(f"no differences in {measure}: measured in different ways: {settings}")
        paired = not problem and not differing
        keys = merged(result.measures[measure]["keys"] for result in measured.values())
        for key in keys:
            if is_headline(key, recipes) and sum(is_number(result.values.get(key)) for result in every) > 1:
                comparison.rows[key] = [cell(key, result, every[0], paired=paired) for result in every]
    return comparison


def cell(key: str, result: Results, first: Results, *, paired: bool) -> Cell | None:
    """Return the value of a key in one run, with its difference to the first run.

    Args:
        key: the key.
        result: the results of the run.
        first: the results of the first run.
        paired: whether the two are comparable; otherwise the cell has no difference.

    Returns:
        The cell; None if the run lacks the value.
    """
    value = result.values.get(key)
    if not is_number(value):
        return None
    error = result.values.get(f"{key}_se")
    reference = first.values.get(key)
    if not paired or result is first or not is_number(reference):
        return Cell(value, error)
    per_image, reference_per_image = result.arrays.get(key), first.arrays.get(key)
    if per_image is None or reference_per_image is None:
        return Cell(value, error, value - reference)
    if per_image.shape != reference_per_image.shape:  # different images, so the values are not paired
        return Cell(value, error)
    return Cell(value, error, *mean_and_error(per_image.double() - reference_per_image.double()))


def conditions(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be equal for values to be comparable: the settings of a measure and its recipe."""
    settings, recipe = measured["settings"], measured["recipe"]
    return {**{key: value for key, value in settings.items() if key not in IRRELEVANT_SETTINGS}, **recipe}


def merged(parts: Iterable[Iterable[str]]) -> list[str]:
    """Return all keys of several collections, each once, in order."""
    return list(dict.fromkeys(key for part in parts for key in part))


def is_headline(key: str, recipes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a key holds a result, and not a detail of how one was measured."""
    name = key.partition("/")[2]
    return not (name.endswith(DETAILS) or "_at_" in name or any(name in recipe for recipe in recipes.values()))


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number, which can be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool)
