"""The tables of results in the documentation, made from the records in docs/results.json.

python scripts/results.py            print the tables
python scripts/results.py --write    put them into the pages, each between its markers
python scripts/results.py --check    exit with status 1 if a table in a page is not up to date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nelbo.errors import NelboError
from nelbo.papers.records import PUBLISHED, compared, read_records
from nelbo.papers.rows import FULL, ROWS
from nelbo.papers.tables import UNKNOWN, Cells, Record, Table, columns, markdown

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "results.json"
BEGIN, END = "<!-- results {name}: python scripts/results.py --write -->", "<!-- end of results -->"

RUN = "`python train.py ... threads=1` | `{label}`"
NELBO, RECONSTRUCTION, KL = "test negative ELBO | {nelbo}", "reconstruction | {reconstruction}", "KL | {kl}"
BEST_NELBO, BITS = "negative ELBO | {nelbo} | nelbo", "bits/dim | {bits_per_dim:.3f}"
BEST_BITS = f"{BITS} | bits_per_dim"
UNITS, COMMIT = "active units | {active_units} of {units}", "commit | {at}"
TRAINING = "training | {epochs:,} epochs, {train_cpu_seconds:,} CPU s"
RANGE = "{ratio:g} ({low:g} to {high:g})"
LEVELS = "KL by level, top first | {kl_by_level:.1f}"

TABLES = (
    Table("defaults", columns(RUN, NELBO, BITS, RECONSTRUCTION, KL, UNITS, TRAINING, COMMIT)),
    Table(
        "presets",
        columns(
            *("`python train.py ... threads=1` | `{label}`", "seed | {seed}", NELBO, RECONSTRUCTION, LEVELS),
            *("NLL | {nll} ± {nll_se}", "negative ELBO of these images | {nelbo_of_nll}"),
            *("epochs, precision | {epochs}, {precision}", "CPU s, training | {train_cpu_seconds:,}"),
            *("processor | {machine}", COMMIT),
        ),
    ),
    Table(
        "presets_cifar10",
        columns(
            *("`python train.py ... threads=1` | `{label}`", "seed | {seed}", BITS, NELBO, RECONSTRUCTION, LEVELS),
            *("epochs, precision | {epochs}, {precision}", "CPU s, training | {train_cpu_seconds:,}"),
            *("processor | {machine}", COMMIT),
        ),
    ),
    Table(
        "surface_mlp",
        columns(
            *("latents | {latents}", "beta | {beta:g}", "alone: reconstruction | {cell_reconstruction}"),
            *("alone: KL | {cell_kl}", "regret: gates | {gates} ± {gates_se}"),
            *("regret: modulated | {modulated} ± {modulated_se}", COMMIT),
        ),
    ),
    Table(
        "surface_conv",
        columns(
            *("latents | {latents}", "beta | {beta:g}", "alone: reconstruction | {cell_reconstruction}"),
            *("alone: KL | {cell_kl}", "regret: modulated | {modulated} ± {modulated_se}", COMMIT),
        ),
    ),
    Table(
        "labels",
        columns(
            *("`python train.py ... threads=1` | `{label}`", "test accuracy | {accuracy:.4f}"),
            *("validation accuracy | {val_accuracy:.4f}", NELBO, "KL: label, z | {kl_by_level:.1f}", TRAINING),
            *("processor | {machine}", COMMIT),
        ),
    ),
    Table(
        "search",
        columns(
            *("optimizer | `{label}`", "rate | {lr:g}", "validation, negative ELBO | {val_nelbo} | val_nelbo"),
            *("CPU s, training | {train_cpu_seconds:,}", COMMIT),
        ),
    ),
    Table(
        "search_mlp",
        columns(
            *("networks | {label}", "validation, negative ELBO | {val_nelbo} | val_nelbo"),
            *("active units | {active_units}", "CPU s, training | {train_cpu_seconds:,}", COMMIT),
        ),
    ),
    Table(
        "search_conv",
        columns(
            *("training | {label}", "validation, negative ELBO | {val_nelbo:,.1f}", "test | {nelbo:,.1f}"),
            *("CPU s, training | {train_cpu_seconds:,}", COMMIT),
        ),
    ),
    Table("pca", columns("latents | {latents}", BITS, COMMIT)),
    Table("hierarchies", columns("`python train.py ...` | `{label}`", NELBO, RECONSTRUCTION, LEVELS, TRAINING, COMMIT)),
    Table(
        "hierarchies_nll",
        columns(
            *("run | {label}", "samples, images | {nll_samples:,}, {nll_images:,}", "NLL | {nll} ± {nll_se}"),
            *("negative ELBO of these images | {nelbo}", COMMIT),
        ),
    ),
    Table(
        "latents",
        columns("`model=conv_vae data=mnist` | {setting}", NELBO, RECONSTRUCTION, KL, TRAINING, COMMIT),
        ("conv_vae mnist", "conv_vae mnist 32"),
    ),
    Table(
        "priors",
        columns(
            *(" | {label}", BEST_NELBO, RECONSTRUCTION, KL, "NLL | {nll} ± {nll_se} | nll"),
            *("active units | {active_units}", "ms per step | {step_ms:.1f}", "training | {train_seconds:,} s", COMMIT),
        ),
    ),
    Table(
        "bounds",
        columns(
            *("objective | {label}", BEST_NELBO, "NLL, 500 samples | {nll} ± {nll_se} | nll"),
            *("active units of 50 | {active_units}", COMMIT),
        ),
    ),
    Table(
        "codes",
        columns(
            *("`prior=` | {label}", BEST_NELBO, BEST_BITS, RECONSTRUCTION, "KL: bits of the codes, in nats | {kl}"),
            *("code perplexity | {perplexity:.1f}", "training, one thread | {train_cpu_seconds:,} CPU s", COMMIT),
        ),
    ),
    Table(
        "optimum",
        columns(
            *("latents | {latents}", "-ELBO, training images | {train_nelbo}", "exact -log p | {train_exact}"),
            *("-ELBO, test images | {test_nelbo}", "exact -log p | {test_exact}", COMMIT),
        ),
    ),
    Table(
        "water_filling",
        columns(
            *("beta (8 latents) | {beta:g}", "rate | {rate}", "exact | {rate_exact}"),
            *("distortion | {distortion}", "exact | {distortion_exact}", COMMIT),
        ),
    ),
    Table(
        "factors",
        columns(
            *(" | {label}", RECONSTRUCTION, "rate | {rate}", "I(x; z) | {information}", "TC | {tc}"),
            *("TC of the beta-VAE there | {tc_of_beta}", "TC of moments | {tc_of_moments:.3f}"),
            *("dimension-wise KL | {dimension_kl}", "MIG | {mig}", "DCI | {dci}", "SAP | {sap}"),
            *("FactorVAE score | {factor_score}", "active units | {active_units}", "seconds | {train_seconds}", COMMIT),
        ),
    ),
    *(
        Table(
            name,
            columns(
                *(f"{data} | {{label}}", BEST_BITS, RECONSTRUCTION, KL, "epochs | {epochs}"),
                *("ms per step | {step_ms}", "training | {train_cpu_seconds} CPU s", COMMIT),
            ),
        )
        for name, data in (("bits_mnist", "MNIST"), ("bits_cifar10", "CIFAR-10"))
    ),
    Table(
        "sweep",
        columns(
            "latents | {latents}",
            *(
                f"{header} | {{beta_{beta}}} ± {{beta_{beta}_sd:.2f}}"
                for header, beta in (("beta 0.25", "025"), ("0.5", "05"), ("1", "1"), ("2", "2"), ("4", "4"))
            ),
            COMMIT,
        ),
    ),
    Table(
        "gradients",
        columns(
            *(" | {label}", "K | {k}", "at the start | {start:g}", "trained by `elbo` | {elbo:g}"),
            *("trained by `iwae`, 50 samples | {iwae:g}", COMMIT),
        ),
    ),
    Table(
        "steps",
        columns(
            *("posterior | {label}", "`standard_normal` | {standard:,}", "`vamp`, K = 50 | {vamp_50:,}"),
            *("`vamp`, K = 500 | {vamp_500:,}", COMMIT),
        ),
    ),
    Table("steps_ladder", columns("`ladder_vae` with | {label}", "ms | {ms:,}", COMMIT)),
    Table(
        "evaluation",
        columns(
            *(" | {label}", "`model=tanh_mlp_vae data=binarized_mnist` | {mlp_vae}"),
            *("`model=conv_vae data=mnist` | {conv_vae}",),
        ),
    ),
    Table(
        "nll_cost",
        columns(
            *("threads | {label}", f"ours / bare | {RANGE}"),
            *("ours, for 10,000 images | {ours} s", "bare | {bare} s", COMMIT),
        ),
    ),
    Table(
        "pairs",
        columns(
            *(" | {label}", "copied | {copied_ms:,} ms, {copied_mb:,} MB", "of pairs | {ms:,} ms, {mb:,} MB"),
            *(f"ratio of times | {RANGE}", COMMIT),
        ),
    ),
    Table(
        "loading",
        columns(
            *(" | {label}", "per item, ms per epoch | {per_item_ms:,}", "ours | {ms:,}"),
            *("images/s | {images_per_second:,}", f"per item / ours | {RANGE}", COMMIT),
        ),
    ),
    Table("local", columns(" | {label}", f"ratio of times | {RANGE}", COMMIT)),
    Table(
        "cells",
        columns(
            *("data | {label}", "before | {before:.2f} ({before_low:.2f} to {before_high:.2f})"),
            *("after | {after:.2f} ({after_low:.2f} to {after_high:.2f})", "target | {target}", COMMIT),
        ),
    ),
    Table(
        "bookkeeping",
        columns(
            *("cells | {label}", "plan | {plan:.1f}", "launch and watch | {launch:.1f}", "report | {report:.1f}"),
            *("in all | {total:.1f}", COMMIT),
        ),
    ),
    Table(
        "cpu_threads",
        columns(
            "setting | {label}",
            *(
                f"{header} | {{{key}:,}} ({{{key}_low:,}} to {{{key}_high:,}})"
                for header, key in (
                    *(("tanh_mlp_vae, quiet", "mlp_quiet"), ("tanh_mlp_vae, busy", "mlp_busy")),
                    *(("conv_vae, quiet", "conv_quiet"), ("conv_vae, busy", "conv_busy")),
                )
            ),
            COMMIT,
        ),
    ),
    Table(
        "overhead",
        columns(
            *("train.py against | {label}", f"ratio | {RANGE}", "rounds | {rounds}", "target | {target}", COMMIT),
        ),
    ),
    Table(
        "expectations",
        columns(RUN, NELBO, BITS, RECONSTRUCTION, KL, UNITS, TRAINING),
        (
            *("conv_vae mnist", "mlp_vae binarized_mnist"),
            *("ladder_vae binarized_mnist", "top_down_vae binarized_mnist"),
            *("conv_vae cifar10", "linear_vae digits", "autoencoder mnist"),
        ),
        "README.md",
    ),
)
"""The tables of records whose columns are values."""


def published(records: Sequence[Record]) -> str:
    """Return the table of the rows of papers with our figures, those of shorter evaluations below the others."""
    ours = {name: [one for one in records if one["table"] == PUBLISHED and one["row"] == name] for name in ROWS}
    headers = ["row", "published", "ours", "gap", "in standard errors", "samples, images"]
    headers += ["CPU minutes: training, evaluation", "commit"]
    rows = []
    for name, row in ROWS.items():
        digits = 2 if row.unit == "nats" else 3
        first = f"{row.published:.2f}" + ("" if row.unit == "nats" else f" {row.unit}")
        if not ours[name]:
            rows.append([f"`{name}`", first, "not run", *[UNKNOWN] * (len(headers) - 3)])
        for record in ours[name]:
            value, error, gap = compared(row, record)
            cells = Cells(record)
            rows.append(
                [
                    f"`{record['id']}`",
                    first,
                    f"{value:.{digits}f} ± {error:.{digits}f}",
                    f"{gap:+.{digits}f}",
                    f"{gap / error:+.1f}" if error else UNKNOWN,
                    cells.cell("{nll_samples:,}, {nll_images:,}"),
                    f"{minutes(record, 'train_cpu_seconds')}, {minutes(record, 'evaluation_cpu_seconds')}",
                    cells.cell("{at}"),
                ]
            )
    return markdown(headers, rows)


def minutes(record: Record, key: str) -> str:
    """Return seconds of a record in minutes."""
    return UNKNOWN if record[key] is None else f"{record[key] / 60:.1f}"


def papers(records: Sequence[Record]) -> str:
    """Return the table that says what the rows of papers are."""
    rows = [[f"`{row.name}`", row.model, f"{row.citation}; {row.place}", row.protocol] for row in FULL]
    return markdown(["row", "model", "paper, and where the number stands", "protocol"], rows)


MADE: dict[str, tuple[str, Callable[[Sequence[Record]], str]]] = {
    "papers": ("docs/results.md", papers),
    "published": ("docs/results.md", published),
    **{table.name: (table.page, table.render) for table in TABLES},
}
"""The page of each table, and the function that makes it from the records."""


def with_tables(page: str, text: str, records: Sequence[Record]) -> str:
    """Return the text of a page with its tables made anew.

    Raises:
        NelboError: if the page lacks the markers of one of its tables, or has those of a table that is not its own.
    """
    own = [name for name, (place, _) in MADE.items() if place == page]
    if others := set(re.findall(r"<!-- results (\w+):", text)) - set(own):
        raise NelboError(f"{page}: has the markers of {sorted(others)[0]}, which is no table of this page")
    for name in own:
        begin = BEGIN.format(name=name)
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(END)
        if not (found and ended):
            raise NelboError(f"{page}: lacks the markers of the table {name}: {begin} and {END}")
        text = f"{before}{begin}\n\n{MADE[name][1](records)}\n\n{END}{after}"
    return text


def main() -> None:
    """Read the command line; print, write or check the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into the pages")
    parser.add_argument("--check", action="store_true", help="check the tables in the pages")
    options = parser.parse_args()
    try:
        records = read_records(RECORDS)
        pages = sorted({page for page, _ in MADE.values()})
        texts = {page: (ROOT / page).read_text() for page in pages}
        expected = {page: with_tables(page, text, records) for page, text in texts.items()}
    except NelboError as error:
        sys.exit(f"error: {error}")
    if not (options.write or options.check):
        print("\n\n".join(f"{name}\n\n{make(records)}" for name, (_, make) in MADE.items()))
    for page in pages:
        if options.write and expected[page] != texts[page]:
            (ROOT / page).write_text(expected[page])
        elif options.check and expected[page] != texts[page]:
            sys.exit(f"{page}: a table of results is not up to date: python scripts/results.py --write")


if __name__ == "__main__":
    main()
