"""Tables: kinds of columns, values as numbers and back, missing values, splits, files and refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nelbo.data.module import ImageData
from nelbo.data.sets.table import table
from nelbo.data.sets.table_columns import decode, encode
from nelbo.data.sets.table_files import columns_of, filled, read_frame, write_columns, write_frame
from nelbo.errors import ConfigError, DataError
from tests.helpers.tables import nonlinear_table, read, write_table

ROWS = 60


def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "length": random.normal(5, 2, ROWS),
            "sex": random.choice(["f", "m"], ROWS),
            "stars": random.integers(1, 6, ROWS),
            "visits": random.integers(0, 80, ROWS),
            "change": random.integers(-40, 40, ROWS),
            "town": random.choice(["Oslo", "Rome", "Lima"], ROWS),
            "code": random.choice(["007", "012", "100"], ROWS),
            "member": random.choice([True, False], ROWS),
            "version": "v1",
        }
    )


KINDS = {
    "length": "numeric",
    "sex": "binary",
    "stars": "categorical",
    "visits": "count",
    "change": "numeric",
    "town": "categorical",
    "code": "categorical",
    "member": "binary",
    "version": "constant",
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_kinds_are_inferred_and_rows_come_back_from_x(suffix: str, tmp_path: Path) -> None:
    path = write_table(frame(), tmp_path / f"table{suffix}")
    arrays = read(path)
    columns = arrays.table["columns"]
    assert {column["name"]: column["kind"] for column in columns} == KINDS
    assert arrays.shape == (1 + 1 + 5 + 1 + 1 + 3 + 3 + 1,)
    content = columns_of(read_frame(path), path)
    x, observed = encode(content, columns, path)
    assert observed.all() and (len(arrays.train), len(arrays.test), arrays.validation) == (54, 6, 5)
    back = tmp_path / f"back{suffix}"
    write_columns(decode(x, columns), back)
    restored, original = (pd.read_csv(f) if suffix == ".csv" else pd.read_parquet(f) for f in (back, Path(path)))
    pd.testing.assert_frame_equal(restored, original, check_dtype=suffix == ".csv", rtol=1e-5)
    assert [dtype.kind for dtype in restored.dtypes] == [dtype.kind for dtype in original.dtypes]


def test_numbers_are_standardised_with_the_training_rows(tmp_path: Path) -> None:
    arrays = read(write_table(frame(), tmp_path / "table.csv"))
    train = arrays.train.__getitems__(torch.arange(len(arrays.train) - arrays.validation)).images
    for place in (0, 8):
        assert train[:, place].mean().abs() < 1e-5 and train[:, place].std(correction=0).item() == pytest.approx(1)
    rest = [arrays.test.__getitems__(torch.arange(6)).images, arrays.train.images[: len(arrays.train)]]
    assert all(abs(part[:, 0].mean().item()) > 1e-3 for part in rest)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_values_are_zero_and_not_observed(suffix: str, tmp_path: Path) -> None:
    content = frame().astype({"visits": "Int64", "stars": "Int64", "member": "boolean"})
    holes = np.random.default_rng(1).uniform(size=content.shape) < 0.3
    holes[:, -1] = False
    arrays = read(write_table(content.mask(holes), tmp_path / f"table{suffix}"))
    assert {column["name"]: column["kind"] for column in arrays.table["columns"]} == KINDS
    observed, x = arrays.train.columns["observed"], arrays.train.images
    column_of = torch.tensor([0, 1, 2, 2, 2, 2, 2, 3, 4, 5, 5, 5, 6, 6, 6, 7])
    assert (observed == ~torch.from_numpy(holes[:, :-1])[:, column_of]).all()
    assert (x[~observed] == 0).all()
    batch = arrays.train.__getitems__(torch.tensor([3, 1]))
    assert (batch.columns["observed"] == observed[batch.positions]).all()
    numbers = content["length"].mask(holes[:, 0])[arrays.train.indices[:-5].numpy()]
    assert arrays.table["columns"][0]["mean"] == pytest.approx(numbers.mean())


def test_the_order_of_rows_is_that_of_the_seed_and_no_row_is_in_two_splits(tmp_path: Path) -> None:
    path = write_table(frame(), tmp_path / "table.csv")
    first, again, other = read(path), read(path), read(path, seed=1)
    assert first.sha256() == again.sha256() != other.sha256()
    both = torch.cat([first.train.indices, first.test.indices])
    assert both.sort().values.tolist() == list(range(ROWS))


def test_kinds_may_be_given_and_columns_left_out(tmp_path: Path) -> None:
    path = write_table(frame(), tmp_path / "table.csv")
    given = {"visits": "numeric", "stars": "count", "town": "ignore", "change": "categorical"}
    columns = {column["name"]: column for column in read(path, columns=given).table["columns"]}
    assert {name: columns[name]["kind"] for name in ("visits", "stars", "change")} == {
        name: given[name] for name in ("visits", "stars", "change")
    }
    assert "town" not in columns


def test_a_label_is_no_part_of_x(tmp_path: Path) -> None:
    content = frame()
    content.loc[4, "town"] = None
    path = write_table(content, tmp_path / "table.csv")
    arrays = read(path, label="town")
    assert arrays.classes == ("Lima", "Oslo", "Rome") and arrays.table["label"]["name"] == "town"
    expected = [-1 if pd.isna(town) else arrays.classes.index(town) for town in content["town"]]
    assert arrays.train.labels.tolist() == expected
    assert "town" not in {column["name"] for column in arrays.table["columns"]}
    number = read(path, label="length")
    torch.testing.assert_close(number.train.columns["length"][:, 0], torch.tensor(content["length"]).float())
    assert (number.train.labels == -1).all() and number.classes == ()


def test_a_second_file_has_the_test_rows(tmp_path: Path) -> None:
    content = frame()
    paths = [write_table(part, tmp_path / f"{n}.csv") for n, part in enumerate((content[:40], content[40:]))]
    arrays = read(paths[0], test_path=paths[1], validation_size=8)
    assert (len(arrays.train), arrays.validation, arrays.test.indices.tolist()) == (40, 8, list(range(40, ROWS)))


@pytest.mark.parametrize(
    ("name", "rows", "size"), [("wine", 178, 16), ("diabetes", 442, 11), ("breast_cancer", 569, 31)]
)
def test_tables_of_scikit_learn_need_no_file(name: str, rows: int, size: int) -> None:
    arrays = read(f"sklearn:{name}")
    assert len(arrays.train) + len(arrays.test) == rows and arrays.shape == (size,)
    assert arrays.train.columns["observed"].all()


def test_filling_in_changes_missing_values_alone(tmp_path: Path) -> None:
    content = frame()
    holes = np.random.default_rng(1).uniform(size=content.shape) < 0.3
    for suffix in (".csv", ".parquet"):
        masked = content.astype({"visits": "Int64", "stars": "Int64", "change": "Int64", "member": "boolean"}).mask(
            holes
        )
        path = write_table(masked.assign(name=[f"row {row}" for row in range(ROWS)]), tmp_path / f"holes{suffix}")
        read_back = read_frame(path)
        columns = read(path).table["columns"]
        complete = read_frame(write_table(content, tmp_path / "whole.csv"))
        whole, _ = encode(columns_of(complete, path, {"code"}), columns, path)
        file = tmp_path / f"filled{suffix}"
        write_frame(filled(read_back, decode(whole, columns)), file)
        result = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
        assert not result.isna().any().any() and result["name"].tolist() == [f"row {row}" for row in range(ROWS)]
        expected = pd.read_csv(tmp_path / "whole.csv", dtype={"code": str})
        for name in content:
            value = result[name].astype(str).tolist() if name in ("code", "member") else result[name].tolist()
            if name == "code" and suffix == ".csv":
                value = pd.read_csv(file, dtype=str)["code"].tolist()
            same = expected[name].astype(str).tolist() if name in ("code", "member") else expected[name].tolist()
            assert value == (pytest.approx(same, rel=1e-5) if name == "length" else same)


def test_a_data_module_serves_rows_and_their_masks(tmp_path: Path) -> None:
    path = write_table(nonlinear_table(200, 0, 0.2)[1], tmp_path / "table.csv")
    options: dict[str, Any] = {"test_path": None, "columns": None, "label": None, "test_size": 0.1, "path": path}

    def source(**rest: Any) -> Any:
        return table(**rest, validation_size=0.1, seed=0)

    data = ImageData(name="table", source=source, batch_size=16, validation_size=0.1, **options)
    data.setup()
    assert data.shape == (9,) and data.levels is None and data.dequantized_levels is None
    assert [len(data.splits[split]) for split in ("train", "val", "test")] == [162, 18, 20]
    batch = data.present("train", next(iter(data.train_dataloader())), epoch=0)
    assert batch.x.shape == (16, 9) and batch.columns["observed"].dtype == torch.bool
    assert batch.context(["observed"])["observed"].shape == (16, 9)
    with pytest.raises(ConfigError, match="^protocol=dynamic: "):
        ImageData(
            name="table", source=source, batch_size=16, validation_size=0.1, protocol="dynamic", **options
        ).setup()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "suffix": ({"path": "x.txt"}, "path=x.txt: must end in .csv or .parquet, or be sklearn:breast_cancer"),
    "absent": ({"path": "absent.csv"}, "path=absent.csv: is not a file in"),
    "sklearn": ({"path": "sklearn:iris2"}, "is not among the tables of scikit-learn"),
    "column": ({"columns": {"age": "numeric"}}, "columns=age: is not a column of"),
    "kind": ({"columns": {"town": "texts"}}, "columns.town=texts: .*numeric, binary, categorical, count"),
    "binary": ({"columns": {"town": "binary"}}, "columns.town=binary: is not binary: it has 3 different values"),
    "numeric": ({"columns": {"town": "numeric"}}, "columns.town=numeric: needs numbers, and has Lima, Oslo, Rome"),
    "count": ({"columns": {"change": "count"}}, "columns.change=count: needs whole numbers from 0 up"),
    "list": ({"columns": ["town"]}, "must be the kinds of columns by name"),
    "label": ({"label": "age"}, "label=age: is not a column of"),
    "constant label": ({"label": "version"}, "label=version: has the same value in all rows"),
    "size": ({"test_size": 0}, "test_size=0: must leave at least one of the 60 rows to test on"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options, message = WRONG[case]
    path = write_table(frame(), tmp_path / "table.csv")
    with pytest.raises(ConfigError, match=message):
        read(**{"path": path, **options})


CONTENTS = {
    "many": ("id\n" + "".join(f"row {row}\n" for row in range(200)), "columns=id: .*200 different texts"),
    "empty column": ("a,b\n1,\n2,\n", "column b has no values; leave it out"),
    "infinite": ("a\n1\ninf\n3\n", "column a has infinite values"),
    "no rows": ("a,b\n", "the data set is empty"),
    "constant": ("a\n1\n1\n", "has no column whose values differ"),
    "reference": ("a\n${b}\nc\n", "column a contains"),
    "ragged": ("a\n1,2\n3,4\n", "more values than its first line has names"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_content_that_cannot_be_used_is_refused(case: str, tmp_path: Path) -> None:
    text, message = CONTENTS[case]
    (tmp_path / "table.csv").write_text(text)
    sizes = {"test_size": 1, "validation_size": 0}
    with pytest.raises((DataError, ConfigError), match=message):
        read(str(tmp_path / "table.csv"), **sizes)


def test_another_value_than_those_of_training_is_refused(tmp_path: Path) -> None:
    arrays = read(write_table(frame(), tmp_path / "table.csv"))
    content = columns_of(frame().assign(town="Bern"), "new")
    with pytest.raises(DataError, match=re.escape("new: column town has 'Bern', which is not among its categories")):
        encode(content, arrays.table["columns"], "new")
    with pytest.raises(DataError, match="column visits has 0.5, which is no count"):
        encode(columns_of(frame().assign(visits=0.5), "new"), arrays.table["columns"], "new")


def test_texts_of_training_stay_texts_in_other_files(tmp_path: Path) -> None:
    arrays = read(write_table(frame(), tmp_path / "table.csv"))
    other = read_frame(write_table(frame().assign(code="100", member="True"), tmp_path / "other.csv"))
    x, observed = encode(columns_of(other, "other", {"code"}), arrays.table["columns"], "other")
    assert observed.all() and (x[:, 14] == 1).all() and (x[:, 15] == 1).all()
