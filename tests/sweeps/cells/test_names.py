"""Directory names of cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from nelbo.sweeps.cells.names import cell_name


def test_names_contain_the_swept_overrides_and_are_unique() -> None:
    job = ["model=mlp_vae", "model.latent_dim=2", "data.root='/a b/c'"]
    assert cell_name(job, ["model.latent_dim", "data.root"], "0123456789abcdef") == (
        "latent_dim=2,root=_a_b_c_-01234567"
    )
    swept = ["model.a.width", "model.b.width", "objective.beta"]
    job = ["model.a.width=1", "model.b.width=2", "objective.beta=0.5"]
    assert cell_name(job, swept, "0" * 16) == "model.a.width=1,model.b.width=2,beta=0.5-00000000"
    assert cell_name(job, [], "0123456789abcdef") == "defaults-01234567"
    long = [f"model.latent_dim={'1' * 500}"]
    assert cell_name(long, ["model.latent_dim"], "0" * 16) != cell_name(long, ["model.latent_dim"], "1" * 16)
    assert len(cell_name(long, ["model.latent_dim"], "0" * 16)) < 140


@pytest.mark.parametrize("letter", ["ä", "漢", "𒀀"])
def test_names_fit_the_byte_limit_of_file_systems(tmp_path: Path, letter: str) -> None:
    """The limit is 255 bytes: characters of two, three and four bytes, none of which may be cut in two."""
    for length in range(90, 124):
        name = cell_name([f"data.root={letter * length}"], ["data.root"], "0" * 16)
        (tmp_path / f".partial-{name}").mkdir(exist_ok=True)
        letters = name.removeprefix("root=").removesuffix("-00000000")
        assert set(letters) == {letter} and len(name.encode()) > 120
