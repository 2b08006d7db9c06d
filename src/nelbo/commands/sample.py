"""`nelbo sample`: rows drawn from a model of tables, written as a table."""

from __future__ import annotations

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.errors import NelboError
from nelbo.finished.arguments import packages


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "sample",
        "run=PATH rows=N out=FILE [label=CLASS]",
        "Draw rows from a model that was trained with data=table, and write them with the columns, types and\n"
        "categories of its training table. No data are needed.",
    )
    made.key("run", "PATH", "a run's directory (its best.ckpt) or a checkpoint", required=True)
    made.key("rows", "N", "the number of rows", type=int, required=True)
    made.key("out", "FILE", "the table to write, .csv or .parquet", required=True)
    made.key("label", "CLASS", "of a model that is conditioned on the label: the label of all rows")
    made.key("seed", "N", "of the rows (0)", type=int, default=0)
    made.key("device", "NAME", "auto (default), cpu, cuda, ...", default="auto")
    made.key("allow_targets", "[PACKAGE.,...]", "packages of your own that the model is made of", default="")
    return made


def main() -> None:
    """Read the command line and sample; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values, _ = parser().read(arguments)
        from nelbo.finished.run import FinishedRun  # seconds to import, which --help does without
        from nelbo.finished.tables import sample_rows

        run = FinishedRun.open(values.run, packages(values.allow_targets), key="run")
        options = {"label": values.label, "seed": values.seed, "device": values.device}
        print(sample_rows(run, values.rows, values.out, **options))
    except NelboError as error:
        fail(error)


if __name__ == "__main__":
    main()
