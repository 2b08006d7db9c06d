"""Models of tables beside independent columns and Gaussian mixtures: log-likelihood and imputation of held-out rows.

    python benchmarks/tables.py nonlinear numbers wine breast_cancer diabetes
    python benchmarks/tables.py breast_cancer --missing 0 0.2 --seeds 0 1 2

A share of all values, a fifth unless `--missing` says otherwise, is removed at random from training and test rows. A
model is trained on the rest, its test rows are scored by importance sampling, and the removed values of test rows are
imputed and compared with the true ones. With several seeds, which are those of the split, of the removed values and of
the training, the last line is the mean over them.

- `independent`: each column with the distribution of the likelihood, fitted to its training values.
- `mixture`: Gaussians with full covariance, of numbers alone; the number of components is chosen on validation rows. It
  cannot be fitted to missing values, so it is given the complete training table, which the model never sees;
  `mixture_of_complete_rows` is given the training rows in which no value is missing.

The errors of imputation are the root mean squared error of numbers and counts, in standard deviations of their columns,
and the share of wrong categories; those of `column` are of the mean of a column, or its most frequent category.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.helpers.tables import best_mixture, mixture_log_likelihood, nonlinear_table, numbers_table  # noqa: E402

from nelbo.data import table  # noqa: E402
from nelbo.data.sets.table_columns import Description, encode  # noqa: E402
from nelbo.data.sets.table_files import columns_of, read_frame  # noqa: E402
from nelbo.heads import Columns  # noqa: E402

MISSING, TRAIN, TEST = 0.2, 4000, 1000
"""Share of values that are removed, and numbers of rows of tables that are made here."""

SPLIT: dict[str, Any] = {"columns": None, "label": None, "test_size": 0.1, "validation_size": 0.1, "seed": 0}


def of_sklearn(name: str) -> Callable[[int, int, float], tuple[pd.DataFrame, pd.DataFrame]]:
    """Return a function that makes a table of scikit-learn, without its target, and one with values missing."""

    def make(rows: int, seed: int, missing: float) -> tuple[pd.DataFrame, pd.DataFrame]:
        random = np.random.default_rng(seed)
        full = read_frame(f"sklearn:{name}").drop(columns="target").sample(frac=1, random_state=seed)
        full = full.reset_index(drop=True)
        return full, full.astype(object).mask(random.uniform(size=full.shape) < missing)

    return make


TABLES: dict[str, Any] = {
    "nonlinear": nonlinear_table,
    "numbers": numbers_table,
    **{name: of_sklearn(name) for name in ("wine", "breast_cancer", "diabetes")},
}


def command(*arguments: str) -> None:
    """Run a script of the checkout, with one thread."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def cpu_seconds() -> float:
    """Return the CPU time of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def errors(
    true: pd.DataFrame, guess: pd.DataFrame, missing: np.ndarray, columns: list[Description]
) -> tuple[float, float]:
    """Return the root mean squared error of missing numbers, standardised, and the share of wrong categories."""
    squares, wrong = [], []
    for column in columns:
        name = column["name"]
        holes = missing[:, list(true.columns).index(name)]
        if column["kind"] in ("numeric", "count"):
            error = (guess[name][holes].astype(float) - true[name][holes].astype(float)) / true[name].astype(
                float
            ).std()
            squares += list(error**2)
        else:
            wrong += list(guess[name][holes].astype(str) != true[name][holes].astype(str))
    return float(np.sqrt(np.mean(squares))) if squares else float("nan"), float(np.mean(wrong)) if wrong else float(
        "nan"
    )


def by_column(holes: pd.DataFrame, train: pd.DataFrame, columns: list[Description]) -> pd.DataFrame:
    """Return a table whose missing values are the mean or the most frequent category of the training table."""
    known = {
        column["name"]: train[column["name"]].astype(float).mean()
        if column["kind"] in ("numeric", "count")
        else train[column["name"]].mode()[0]
        for column in columns
    }
    return holes.fillna(known)


def baselines(folder: Path, full: pd.DataFrame, train_rows: int) -> dict[str, float]:
    """Return negative log-likelihoods of test rows, in nats."""
    arrays = table(str(folder / "train.csv"), str(folder / "test.csv"), **SPLIT)
    descriptions = arrays.table["columns"]
    x, observed = arrays.train.images, arrays.train.columns["observed"]
    training = arrays.train.indices[: len(arrays.train) - arrays.validation]
    validation, test = arrays.train.indices[len(training) :], arrays.test.indices
    head = Columns((1,), arrays.shape, columns=descriptions, counts="negative_binomial")
    head.initialize(x[training], {"observed": observed[training]})
    with torch.no_grad():
        px = head(torch.zeros(len(test), 1), context={"observed": observed[test]})
        result = {"independent": -px.log_prob(x[test]).mean().item()}
    if all(column["kind"] == "numeric" for column in descriptions):
        complete, _ = encode(columns_of(full[:train_rows], "full"), descriptions, "full")
        whole = x[training][observed[training].all(1)]
        for key, rows in (("mixture", complete[training]), ("mixture_of_complete_rows", whole)):
            if len(rows) < 4 or (key != "mixture" and len(rows) == len(complete[training])):
                continue
            before = time.process_time()
            mixture = best_mixture(rows.numpy(), x[validation].numpy(), observed[validation].numpy(), 0)
            result[key] = -mixture_log_likelihood(mixture, x[test].numpy(), observed[test].numpy()).mean()
            result[f"{key}_components"] = mixture.n_components
            result[f"{key}_cpu_seconds"] = time.process_time() - before
    return result


def measure(name: str, seed: int, share: float, options: list[str]) -> dict[str, float]:
    """Return what was measured of one table, of whose values a share is removed."""
    full, holes = TABLES[name](TRAIN + TEST, seed, share)
    train_rows = len(full) - (TEST if len(full) == TRAIN + TEST else len(full) // 5)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        holes[:train_rows].to_csv(folder / "train.csv", index=False)
        holes[train_rows:].to_csv(folder / "test.csv", index=False)
        data = [f"data.path={folder}/train.csv", f"data.test_path={folder}/test.csv"]
        run, before = f"run={folder}/run", cpu_seconds()
        command("train.py", "data=table", *data, f"hydra.run.dir={folder}/run", "threads=1", f"seed={seed}", *options)
        trained = cpu_seconds() - before
        command("scripts/evaluate.py", run, "metrics=[nll]", "metrics.nll.num_samples=500", "device=cpu", "threads=1")
        metrics = json.loads((folder / "run" / "evaluation.json").read_text())
        scores = {"nll": metrics["test/nll"], "nll_se": metrics["test/nll_se"], **baselines(folder, full, train_rows)}
        scores["training_cpu_seconds"] = trained
        if not holes[train_rows:].isna().to_numpy().any():
            return scores
        command("scripts/impute.py", run, f"data.path={folder}/test.csv", f"out={folder}/filled.csv", "num_samples=500")
        arrays = table(str(folder / "train.csv"), str(folder / "test.csv"), **SPLIT)
        columns = arrays.table["columns"]
        true, test = full[train_rows:].reset_index(drop=True), holes[train_rows:].reset_index(drop=True)
        missing = test.isna().to_numpy()
        model = errors(true, pd.read_csv(folder / "filled.csv"), missing, columns)
        naive = errors(true, by_column(test, holes[:train_rows], columns), missing, columns)
        imputed = {"rmse": model[0], "rmse_column": naive[0], "wrong": model[1], "wrong_column": naive[1]}
        return scores | imputed


def show(what: str, values: dict[str, float]) -> None:
    """Print values in a line."""
    print(what, *(f"{key}={value:.4g}" for key, value in values.items()), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--missing", type=float, nargs="+", default=[MISSING], help="shares of values to remove")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--options", nargs="*", default=[], help="further arguments of train.py")
    arguments = parser.parse_args()
    for name, share in itertools.product(arguments.tables, arguments.missing):
        found = []
        for seed in arguments.seeds:
            found.append(measure(name, seed, share, arguments.options))
            show(f"{name} missing={share:g} seed={seed}", found[-1])
        if len(found) > 1:
            show(f"{name} missing={share:g} mean", pd.DataFrame(found).mean().to_dict())


if __name__ == "__main__":
    main()
