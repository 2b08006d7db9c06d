"""Numbers as text for people."""

from __future__ import annotations

from nelbo.sweeps.report.formatting import LONGEST_LABEL, figure_label, format_number


def test_numbers_are_rounded_to_four_digits_and_at_most_two_decimals() -> None:
    numbers = (-20.537, 103.21, 3.0, 0.0123, None)
    assert [format_number(number) for number in numbers] == ["−20.54", "103.2", "3", "0.01", "–"]


def test_long_values_are_shortened_in_figures_and_stay_different() -> None:
    labels = [figure_label(f"/data/{'folder/' * 20}{name}") for name in ("train.npz", "test.npz")]
    assert len(set(labels)) == 2 and all(len(label) == LONGEST_LABEL for label in labels)
    assert figure_label("x" * LONGEST_LABEL) == "x" * LONGEST_LABEL and figure_label(0.5) == "0.5"
