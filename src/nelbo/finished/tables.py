"""Tables made by a finished run: missing values filled in, and rows drawn from the model.

Shapes: N rows, B batch, D entries of an encoded row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nelbo.data.arrays import LABEL, OBSERVED
from nelbo.data.sets.table import conditions
from nelbo.data.sets.table_columns import Columns, decode, encode, plain, typed
from nelbo.data.sets.table_files import check_suffix, columns_of, filled, read_frame, write_columns, write_frame
from nelbo.errors import ConfigError, DataError, choice, integer, path, positive_integer
from nelbo.evaluation.imputation import imputation
from nelbo.finished.run import FinishedRun, torch_device
from nelbo.models import Model
from nelbo.models.context import Context, required_names
from nelbo.numerics.precision import IEEE, float32
from nelbo.numerics.randomness import isolated

FILLS = ("mean", "draw")
"""How missing values are filled: by the expected or most probable value, or by a draw."""

LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Filled:
    """What was filled in.

    Args:
        file: the table that was written.
        rows: number of its rows.
        values: number of values that were missing, in the columns that the model knows.
        effective_samples: median over the rows with missing values of the effective number of importance samples; NaN
            without such rows.
    """

    file: Path
    rows: int
    values: int
    effective_samples: float


def impute(
    run: FinishedRun,
    table: str,
    out: str,
    *,
    num_samples: int,
    fill: str,
    seed: int,
    batch_size: int,
    device: str,
) -> Filled:
    """Fill in the missing values of a table and write it; values that are known stay as they are.

    Args:
        run: trained on a table.
        table: the .csv or .parquet file to fill; columns that the model does not know stay as they are.
        out: the .csv or .parquet file to write.
        num_samples: importance samples of each row.
        fill: `mean` for the conditional mean of numbers and counts, rounded where they are whole, and the most probable
            category; `draw` for a draw from the conditional distribution, as multiple imputation needs.
        seed: of the samples.
        batch_size: rows at once.
        device: as in `torch_device`.

    Raises:
        NelboError: if the run, the table or an argument cannot be used.
    """
    record, file = table_of(run), path("out", out)
    check_suffix(file)
    choice("fill", fill, FILLS)
    positive_integer("batch_size", batch_size)
    frame = read_frame(table, "data.path")
    described = [*record["columns"], *([record["label"]] if record["label"] else [])]
    columns = columns_of(frame, table, {column["name"] for column in described if column["values"] == "text"})
    x, observed = encode(columns, record["columns"], table)
    place = torch_device(device)
    model = run.model.to(place)
    context = {OBSERVED: observed, **known_conditions(model, columns, record, table)}
    rows = torch.nonzero(~observed.all(1)).flatten()
    positive_integer("num_samples", num_samples)
    whole, effective = x.clone(), []
    with isolated(integer("seed", seed, minimum=0, maximum=LARGEST_SEED)):
        for part in rows.split(batch_size):
            given: Context = {name: value[part].to(place) for name, value in context.items()}
            found = imputation(model, x[part].to(place), given, num_samples)
            new = (found.mean if fill == "mean" else found.drawn).cpu()
            whole[part] = torch.where(observed[part], x[part], new)
            effective.append(found.effective_samples.cpu())
    values = sum(int((frame[name].isna()).sum()) if name in frame.columns else len(frame) for name in names_of(record))
    write_frame(filled(frame, decode(whole, record["columns"])), file)
    return Filled(file, len(frame), values, float(torch.cat(effective).median()) if effective else float("nan"))


def sample_rows(run: FinishedRun, rows: int, out: str, *, label: str | None, seed: int, device: str) -> Path:
    """Draw rows from p(x) of a model and write them as a table with the columns of its training table.

    Args:
        run: trained on a table.
        rows: the number of rows.
        out: the .csv or .parquet file to write.
        label: of a model that is conditioned on the label, the label of all rows; None for other models.
        seed: of the rows.
        device: as in `torch_device`.

    Returns:
        The file.

    Raises:
        NelboError: if the run or an argument cannot be used.
    """
    record, file = table_of(run), path("out", out)
    check_suffix(file)
    positive_integer("rows", rows)
    model = run.model.to(torch_device(device))
    setting, more = label_setting(model, record["label"], label)
    bound = model.at(**setting) if setting else model
    with isolated(integer("seed", seed, minimum=0, maximum=LARGEST_SEED)), float32(IEEE):
        x = bound.generate(rows).sample()
    columns = decode(x, record["columns"])
    if more is not None:
        description = record["label"]
        columns[description["name"]] = typed([more] * rows, description["values"])
    write_columns(columns, file)
    return file


def table_of(run: FinishedRun) -> Mapping[str, Any]:
    """Return what turns rows into x and back, of the table that a run was trained on.

    Raises:
        ConfigError: if it was trained on other data.
    """
    record = run.record.get("table")
    if not isinstance(record, Mapping) or not record.get("columns"):
        raise ConfigError("run", run.folder, "was not trained on a table, data=table")
    return record


def names_of(record: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns that are part of x, or constant."""
    return [column["name"] for column in record["columns"]]


def known_conditions(model: Model, columns: Columns, record: Mapping[str, Any], place: str) -> dict[str, Tensor]:
    """Return what the model is conditioned on of the rows of a table, (N, ...) each; nothing for most models.

    Raises:
        DataError: if the table lacks it in some rows.
    """
    names = required_names(model)
    given = conditions(columns, record["label"], place) if names or model.inferred_names else {}
    for name in names:
        if name not in given or (name == LABEL and bool((given[name] < 0).any())):
            column = record["label"]["name"] if record["label"] else name
            raise DataError(f"{place}: the model is conditioned on {column}, which some rows lack; fill it in")
    return {name: given[name] for name in (*names, *model.inferred_names) if name in given}


def label_setting(model: Model, description: Mapping[str, Any] | None, label: str | None) -> tuple[dict[str, Any], Any]:
    """Return the context that a label stands for, and its value as the table has it.

    Raises:
        ConfigError: if the model needs a label and none is given, or the reverse, or it is none of its labels.
    """
    names = required_names(model)
    if description is None or not (names or (label is not None and model.inferred_names)):
        if label is not None:
            raise ConfigError("label", label, "the model is not conditioned on a label; leave it out")
        return {}, None
    name = description["name"]
    if label is None:
        raise ConfigError("label", None, f"the model is conditioned on {name}; give the {name} of the rows")
    if "categories" not in description:
        try:
            return {name: torch.tensor([float(label)])}, plain(float(label), description["values"])
        except ValueError as error:
            raise ConfigError("label", label, f"must be a number, as {name} is") from error
    texts = [str(category) for category in description["categories"]]
    number = texts.index(choice("label", label, texts))
    return {LABEL: number}, description["categories"][number]
