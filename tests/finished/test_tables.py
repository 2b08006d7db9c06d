"""Runs on tables from the command line: training, resuming, evaluation, imputation and samples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import nelbo
from nelbo.data.sets.table_columns import encode
from nelbo.data.sets.table_files import columns_of, read_frame
from nelbo.distributions import StandardNormal
from nelbo.errors import ConfigError, DataError
from nelbo.finished.run import FinishedRun
from nelbo.finished.tables import impute, sample_rows
from nelbo.models import Model
from nelbo.numerics.randomness import isolated
from tests.helpers.evaluations import train_smoke
from tests.helpers.forks import forked
from tests.helpers.tables import nonlinear_table, write_table

SMALL = ["model.encoder.hidden=[16,16]", "model.decoder.hidden=[16,16]", "model.latent_dim=2"]
OPTIONS: dict[str, Any] = {"num_samples": 20, "fill": "mean", "seed": 0, "batch_size": 100, "device": "cpu"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, a run on it, and one that is conditioned on the label `region`."""
    folder = tmp_path_factory.mktemp("tables")
    full, holes = nonlinear_table(300, seed=0, missing=0.2)
    table = write_table(holes.assign(region=full["region"]), folder / "table.csv")
    data = ["data=table", f"data.path={table}", *SMALL]
    inferred = ["data.label=region", "conditioning=semi_supervised_mlp", "data.labelled=20"]
    runs = {"run": data, "conditional": [*data, "data.label=region", "conditioning=label"]}
    runs["inferred"] = [*data, *inferred, "model.classifier.hidden=[16]"]
    train_smoke(folder, runs)
    return folder


def test_the_record_of_a_run_has_all_that_turns_rows_into_x_and_back(home: Path) -> None:
    run = FinishedRun.open(home / "run")
    columns = run.record["table"]["columns"]
    assert [column["name"] for column in columns] == ["height", "area", "score", "smoker", "region", "visits"]
    assert run.record["model"]["likelihood"]["columns"] == run.record["model"]["inputs"]["columns"] == columns
    assert run.record["data"]["shape"] == [9]
    model = nelbo.load(home / "run")
    assert model.generate(3).sample().shape == (3, 9)
    assert model.encode(torch.zeros(2, 9)).mean.shape == (2, 2)
    with pytest.raises(ValueError, match="expected finite numbers"):
        model.encode(torch.full((2, 9), float("nan")))


def test_a_run_on_a_table_is_resumed(home: Path) -> None:
    done = forked("train.py", f"resume={home / 'run'}", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "run" / "metrics.json").read_text())["epochs"] == 2


def test_a_run_is_evaluated_with_its_masks(home: Path) -> None:
    done = forked(
        "scripts/evaluate.py", f"run={home / 'run'}", "metrics=[elbo,nll]", "metrics.nll.num_samples=200", "device=cpu"
    )
    assert done.returncode == 0, done.stderr
    reported = json.loads((home / "run" / "metrics.json").read_text())["test/nelbo"]
    values = json.loads((home / "run" / "evaluation.json").read_text())
    assert values["test/nelbo"] == pytest.approx(reported, abs=0.3) and values["test/nll"] < values["test/nelbo"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_values_are_filled_in_and_others_stay(home: Path, suffix: str, tmp_path: Path) -> None:
    _, holes = nonlinear_table(40, seed=1, missing=0.3)
    holes = holes.assign(visits=holes["visits"].astype("Int64"), name=[f"row {row}" for row in range(40)])
    holes = holes.astype({"height": float, "area": float, "score": float})
    file, out = Path(write_table(holes, tmp_path / f"holes{suffix}")), tmp_path / f"out{suffix}"
    done = forked("scripts/impute.py", f"run={home / 'run'}", f"data.path={file}", f"out={out}", "num_samples=20")
    assert done.returncode == 0, done.stderr
    assert f"{int(holes.isna().sum().sum())} values of 40 rows filled in" in done.stdout
    before, after = (pd.read_csv(f) if suffix == ".csv" else pd.read_parquet(f) for f in (file, out))
    assert not after.isna().any().any() and list(after) == list(before)
    known = before.notna()
    for name in before:
        assert after[name][known[name]].tolist() == before[name][known[name]].tolist()
    assert set(after["smoker"]) <= {"yes", "no"} and (after["visits"] == after["visits"].round()).all()
    if suffix == ".parquet":
        assert after.dtypes.tolist() == before.dtypes.tolist()


def test_draws_differ_by_seed_and_means_do_not_much(home: Path, tmp_path: Path) -> None:
    _, holes = nonlinear_table(40, seed=1, missing=0.3)
    table, run = write_table(holes, tmp_path / "holes.csv"), FinishedRun.open(home / "run")
    filled = {}
    for fill, seed in (("draw", 0), ("draw", 1), ("mean", 0), ("mean", 1)):
        out = tmp_path / f"{fill}{seed}.csv"
        impute(run, table, str(out), **{**OPTIONS, "fill": fill, "seed": seed, "num_samples": 300})
        filled[fill, seed] = pd.read_csv(out)["height"]
    draws, means = ((filled[fill, 0] - filled[fill, 1]).abs().mean() for fill in ("draw", "mean"))
    assert draws > 3 * means > 0


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_sampled_rows_have_the_columns_and_types_of_the_table(home: Path, suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"rows{suffix}"
    done = forked("scripts/sample.py", f"run={home / 'run'}", "rows=50", f"out={out}")
    assert done.returncode == 0 and done.stdout.strip() == str(out), done.stderr
    rows = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert list(rows) == ["height", "area", "score", "smoker", "region", "visits"] and len(rows) == 50
    assert set(rows["smoker"]) <= {"yes", "no"} and set(rows["region"]) <= {"north", "east", "south", "west"}
    assert rows["visits"].dtype == "int64" and rows["height"].dtype == "float64"


def test_a_conditional_model_takes_the_label_of_rows(home: Path, tmp_path: Path) -> None:
    run = FinishedRun.open(home / "conditional")
    sample_rows(run, 5, str(tmp_path / "rows.csv"), label="south", seed=0, device="cpu")
    assert set(pd.read_csv(tmp_path / "rows.csv")["region"]) == {"south"}
    full, holes = nonlinear_table(20, seed=1, missing=0.3)
    table = write_table(holes.assign(region=full["region"]), tmp_path / "holes.csv")
    filled = impute(run, table, str(tmp_path / "out.csv"), **OPTIONS)
    assert filled.rows == 20 and not pd.read_csv(tmp_path / "out.csv").isna().any().any()
    with pytest.raises(DataError, match="conditioned on region, which some rows lack"):
        impute(run, write_table(holes.drop(columns="region"), tmp_path / "less.csv"), "out.csv", **OPTIONS)
    with pytest.raises(ConfigError, match="label=null: the model is conditioned on region"):
        sample_rows(run, 5, str(tmp_path / "rows.csv"), label=None, seed=0, device="cpu")
    with pytest.raises(ConfigError, match="label=up: must be east, north, south, west|label=up"):
        sample_rows(run, 5, str(tmp_path / "rows.csv"), label="up", seed=0, device="cpu")


def weighted(
    model: Model, x: Tensor, context: dict[str, Tensor], samples: int
) -> tuple[Tensor, Tensor, torch.distributions.Distribution]:
    """Return log w and log p(x|z) of samples of q, (S, N) each, and p(x|z), by the definitions."""
    with torch.no_grad(), isolated(5):
        q = model.encode(x, context)
        z = q.sample((samples,))
        px = model.decode(z, context=context)
        log_px, prior = px.log_prob(x), Normal(0, 1).log_prob(z).sum(-1)
        return log_px + prior - q.log_prob(z), log_px, px


def test_values_of_a_conditional_run_with_missing_values_are_those_of_its_definition(home: Path) -> None:
    """Evaluation gives the model the mask and the label of each row, as a computation by hand does."""
    run = FinishedRun.open(home / "conditional")
    scores = ["metrics=[elbo,nll]", "metrics.nll.num_samples=2000", "metrics.elbo.num_samples=500", "device=cpu"]
    done = forked("scripts/evaluate.py", f"run={home / 'conditional'}", *scores)
    assert done.returncode == 0, done.stderr
    values = json.loads((home / "conditional" / "evaluation.json").read_text())
    test = run.data.splits["test"]
    x, labels, _, columns = test.__getitems__(torch.arange(len(test)))
    assert not columns["observed"].all() and len(labels.unique()) > 1
    context = {"label": labels, "observed": columns["observed"]}
    log_w, log_px, _ = weighted(run.model, x, context, 2000)
    kl = kl_divergence(run.model.encode(x, context), StandardNormal(torch.zeros(2))).detach()
    assert values["test/nll"] == pytest.approx((math.log(2000) - log_w.logsumexp(0)).mean().item(), abs=0.01)
    assert values["test/nelbo"] == pytest.approx((kl - log_px.mean(0)).mean().item(), abs=0.1)
    for wrong in ({**context, "label": (labels + 1) % 4}, {"label": labels}):
        other = (math.log(2000) - weighted(run.model, x, wrong, 2000)[0].logsumexp(0)).mean().item()
        assert abs(other - values["test/nll"]) > 0.015


def test_imputation_of_a_conditional_model_is_given_the_label(home: Path, tmp_path: Path) -> None:
    run = FinishedRun.open(home / "conditional")
    full, holes = nonlinear_table(60, seed=1, missing=0.3)
    file = write_table(holes.assign(region=full["region"]), tmp_path / "holes.csv")
    arguments = [f"run={home / 'conditional'}", "num_samples=4000"]
    done = forked("scripts/impute.py", *arguments, f"data.path={file}", f"out={tmp_path / 'out.csv'}")
    assert done.returncode == 0, done.stderr
    assert "values of 60 rows filled in" in done.stdout
    columns = run.record["table"]["columns"]
    x, observed = encode(columns_of(read_frame(file), file), columns, file)
    labels = torch.tensor([["east", "north", "south", "west"].index(region) for region in full["region"]])
    log_w, _, px = weighted(run.model, x, {"label": labels, "observed": observed}, 4000)
    height = (log_w.softmax(0).unsqueeze(-1) * px.mean).sum(0)[:, 0] * columns[0]["sd"] + columns[0]["mean"]
    missing = ~observed[:, 0]
    found = torch.tensor(pd.read_csv(tmp_path / "out.csv")["height"].to_numpy())
    assert missing.sum() > 10 and (found - height)[missing].abs().max() < 0.05 * columns[0]["sd"]
    others = full["region"].map({"north": "south", "south": "north", "east": "west", "west": "east"})
    swapped = write_table(holes.assign(region=others), tmp_path / "swapped.csv")
    impute(run, swapped, str(tmp_path / "other.csv"), **{**OPTIONS, "num_samples": 4000})
    moved = torch.tensor(pd.read_csv(tmp_path / "other.csv")["height"].to_numpy()) - found
    assert (moved[missing] != 0).all() and (moved[~missing] == 0).all()


def test_wrong_arguments_end_in_one_line(home: Path, smoke_run: Path, tmp_path: Path) -> None:
    table = home / "table.csv"
    cases = {
        "out=out.txt: must end in .csv or .parquet": [f"run={home / 'run'}", f"data.path={table}", "out=out.txt"],
        "fill=median: ": [f"run={home / 'run'}", f"data.path={table}", "out=out.csv", "fill=median"],
        "data.path=absent.csv: is not a file": [f"run={home / 'run'}", "data.path=absent.csv", "out=out.csv"],
        "was not trained on a table": [f"run={smoke_run}", f"data.path={table}", "out=out.csv"],
        "out=... is missing": [f"run={home / 'run'}", f"data.path={table}"],
    }
    for message, arguments in cases.items():
        done = forked("scripts/impute.py", *arguments)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_options_of_pixels_are_refused(home: Path, tmp_path: Path) -> None:
    done = forked("train.py", "data=table", f"data.path={home / 'table.csv'}", "likelihood=bernoulli", *SMALL,
                  "trainer=smoke", f"hydra.run.dir={tmp_path / 'run'}")  # fmt: skip
    assert done.returncode == 2 and "likelihood=bernoulli" in done.stderr
    done = forked("train.py", "data=table", f"data.path={home / 'table.csv'}", "model=ladder_vae", "trainer=smoke",
                  f"hydra.run.dir={tmp_path / 'other'}")  # fmt: skip
    assert done.returncode == 2 and "inputs=" in done.stderr


def test_a_model_that_infers_the_label_of_rows(home: Path, tmp_path: Path) -> None:
    """Evaluation gives it masks and no labels; `impute` and `sample` take a label and do without."""
    done = forked("scripts/evaluate.py", f"run={home / 'inferred'}", "metrics=[elbo,accuracy]", "device=cpu")
    assert done.returncode == 0, done.stderr
    values = json.loads((home / "inferred" / "evaluation.json").read_text())
    reported = json.loads((home / "inferred" / "metrics.json").read_text())
    assert values["test/accuracy"] == pytest.approx(reported["test/accuracy"], abs=1e-6) and values["test/accuracy"] < 1
    assert values["test/nelbo"] == pytest.approx(reported["test/nelbo"], abs=0.3)
    run, out = FinishedRun.open(home / "inferred"), tmp_path / "out.csv"
    impute(run, str(home / "table.csv"), str(out), **OPTIONS)
    assert not read_frame(str(out))["height"].isna().any()
    for label in (None, "north"):
        sample_rows(run, 5, str(tmp_path / f"{label}.csv"), label=label, seed=0, device="cpu")
        assert len(read_frame(str(tmp_path / f"{label}.csv"))) == 5
