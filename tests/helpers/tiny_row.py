"""`nelbo reproduce` with one more row, `tiny`, which trains for seconds on the digits; tests run it as a script."""

from __future__ import annotations

from nelbo.commands import reproduce
from nelbo.papers.rows import ROWS, Row

TINY = Row(
    "tiny",
    "VAE of a test",
    20.0,
    "Nobody 2000, A paper",
    "table 1",
    "binary digits",
    num_samples=300,
    arguments=(
        *("model=mlp_vae", "data=digits", "data.protocol=threshold", "likelihood=bernoulli", "model.latent_dim=2"),
        *("trainer=smoke", "callbacks=none", "logger=none"),
    ),
)

if __name__ == "__main__":
    ROWS[TINY.name] = TINY
    reproduce.main()
