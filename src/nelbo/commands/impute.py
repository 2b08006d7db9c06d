"""`nelbo impute`: a table with its missing values filled in by a model of tables."""

from __future__ import annotations

import math

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.errors import NelboError
from nelbo.finished.arguments import packages

FEW = 10
"""Effective samples below which the command warns."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "impute",
        "run=PATH data.path=FILE out=FILE [fill=mean|draw] [num_samples=S]",
        "Fill in the missing values of a table with a model that was trained with data=table: by their means given\n"
        "the values that are known (of categories, the most probable one), estimated by importance sampling. Values\n"
        "that are known, and columns that the model does not know, stay as they are.",
        "fill=draw draws values in place of means: several files with other seeds are a multiple imputation.",
    )
    made.key("run", "PATH", "a run's directory (its best.ckpt) or a checkpoint", required=True)
    made.key("data.path", "FILE", "the table to fill in, .csv or .parquet", required=True)
    made.key("out", "FILE", "the table to write, .csv or .parquet", required=True)
    made.key("fill", "mean|draw", "mean (default), or a draw from the distribution given what is known", default="mean")
    made.key("num_samples", "S", "importance samples of each row (1000)", type=int, default=1000)
    made.key("seed", "N", "of the samples (0)", type=int, default=0)
    made.key("batch_size", "B", "rows at once (100)", type=int, default=100)
    made.key("device", "NAME", "auto (default), cpu, cuda, ...", default="auto")
    made.key("allow_targets", "[PACKAGE.,...]", "packages of your own that the model is made of", default="")
    return made


def main() -> None:
    """Read the command line and impute; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values, _ = parser().read(arguments)
        from nelbo.finished.run import FinishedRun  # seconds to import, which --help does without
        from nelbo.finished.tables import impute

        run = FinishedRun.open(values.run, packages(values.allow_targets), key="run")
        filled = impute(
            run,
            getattr(values, "data.path"),
            values.out,
            num_samples=values.num_samples,
            fill=values.fill,
            seed=values.seed,
            batch_size=values.batch_size,
            device=values.device,
        )
    except NelboError as error:
        fail(error)
    few = not math.isnan(filled.effective_samples) and filled.effective_samples < FEW
    hint = f"; few: try num_samples={10 * values.num_samples}" if few else ""
    effective = "" if math.isnan(filled.effective_samples) else f", {filled.effective_samples:.0f} effective samples"
    print(f"{filled.file}: {filled.values:,} values of {filled.rows:,} rows filled in{effective}{hint}")


if __name__ == "__main__":
    main()
