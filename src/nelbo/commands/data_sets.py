"""What `nelbo data` does with data sets: list, fetch, show and verify them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.table import Table

from nelbo.commands.data_sheet import contact_sheet
from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.composing.places import SHIPPED
from nelbo.config.build import build
from nelbo.config.checks import allowed_targets
from nelbo.data.catalogue import CATALOGUE
from nelbo.data.fetch import cache_directory
from nelbo.data.module import ImageData
from nelbo.data.protocols import PROTOCOLS
from nelbo.data.store import damage, stores
from nelbo.errors import ConfigError, NelboError, first_line
from nelbo.messages.suggestions import did_you_mean, option_suggestions
from nelbo.terminal.console import make_console, print_table
from nelbo.terminal.programs import program

console = make_console()


def settings(*overrides: str) -> dict[str, Any]:
    """Return `data` and `allow_targets` of the config that `nelbo train` would compose."""
    register_resolvers()
    with initialize_config_dir(str(SHIPPED), **hydra_options()):
        config = compose("config", overrides=[*overrides])
    return {
        key: OmegaConf.to_container(config[key], resolve=True, throw_on_missing=True)
        for key in ("data", "allow_targets")
    }


def load(*overrides: str) -> ImageData:
    """Return the data of a config, loaded and split.

    Raises:
        NelboError: if they cannot be loaded.
    """
    plain = settings(*overrides)
    data: ImageData = build(plain["data"], "data", allowed_targets(plain))
    try:
        data.setup()
    except ConfigError as error:
        raise error.within("data") from error.__cause__
    return data


def list_sets() -> None:
    """Print a table of all data sets."""
    table = Table(title=f"data sets; cache {cache_directory()} (NELBO_DATA)")
    for column in ("data=", "shape", "train + test", "held out", "protocol", "labels", "in the cache"):
        table.add_column(column)
    for name, entry in CATALOGUE.items():
        plain = settings(f"data={name.split()[0]}", *name.split()[1:])["data"]
        cached = "with scikit-learn" if not entry.files else f"{entry.size() / 1e6:,.0f} MB" if entry.cached() else "-"
        shape = "x".join(map(str, plain["shape"]))
        images = f"{entry.train:,} + {entry.test:,}"
        table.add_row(name, shape, images, f"{plain['validation_size']:,}", plain["protocol"], entry.labels, cached)
    print_table(table, console)
    console.print(
        "your own: data=image_folder data.root=..., data=arrays data.path=..., data=table data.path=..., "
        "data=huggingface data.name=..."
    )


def fetch_sets(names: list[str]) -> None:
    """Fetch data sets, and print the sizes and the digest of each; without names, all of them."""
    each(names or list(CATALOGUE), lambda name: describe(load(*arguments(name))))


def verify_sets(names: list[str]) -> None:
    """Compare the digest of every file, and load the sets; without names, those in the cache."""

    def verify(name: str) -> str:
        overrides = arguments(name)
        if problems := CATALOGUE[name].problems():
            raise NelboError("; ".join(problems))
        return describe(load(*overrides))

    made = {str(folder.relative_to(cache_directory())): folder for folder in stores()} if not names else {}

    def verify_store(name: str) -> str:
        if problem := damage(made[name]):
            raise NelboError(problem)
        return "a memory map, as it was made"

    known = names or [name for name, entry in CATALOGUE.items() if entry.cached()]
    each([*known, *made], lambda name: verify_store(name) if name in made else verify(name))


def arguments(name: str) -> list[str]:
    """Return the overrides that choose a set of the catalogue.

    Raises:
        NelboError: if it has no such set.
    """
    if "," in name:
        raise NelboError(f"data sets are separated by spaces: {name.replace(',', ' ')}")
    if name not in CATALOGUE:
        near = f"; {did_you_mean(option_suggestions('data', name, list(CATALOGUE)))}".rstrip("; ")
        raise ConfigError("data", name, f"is not in the catalogue: {', '.join(CATALOGUE)}{near}", located=True)
    data, *rest = name.split()
    return [f"data={data}", *rest]


def describe(data: ImageData) -> str:
    """Return the protocol, the sizes and the digest of data as one line."""
    facts = data.provenance()
    sizes = " + ".join(f"{facts[f'{split}_images']:,} {split}" for split in ("train", "val", "test"))
    protocol = f"{data.protocol} ({PROTOCOLS[data.protocol].description})"
    return f"{protocol}, {sizes}, SHA-256 {facts['data_sha256']}"


def each(names: list[str], task: Callable[[str], str]) -> None:
    """Run a task for each set, and print its result or its error.

    Raises:
        NelboError: naming the sets that failed, once all have been tried.
    """
    failed = []
    for name in names:
        try:
            console.print(f"{name}: {task(name)}", highlight=False)
        except NelboError as error:
            failed.append(name)
            console.print(f"{name}: error: {error}", highlight=False)
    if failed:
        raise NelboError(f"{len(failed)} of {len(names)} sets failed: {', '.join(failed)}")


def show_set(names: list[str]) -> None:
    """Write a contact sheet of training images as the model sees them: a row for each class, if there are classes.

    Raises:
        NelboError: for bad arguments, or a file that cannot be written.
    """
    out = [name.partition("=")[2] for name in names if name.startswith("out=")]
    names = [name for name in names if not name.startswith("out=")]
    if not names or "=" in names[0]:
        raise NelboError(f"usage: {program('data')} show SET [data.protocol=...] [out=FILE.png]")
    if more := [name for name in names[1:] if "=" not in name]:
        raise NelboError(f"{more[0]}: one set is shown at a time")
    data = load(f"data={names[0]}", *names[1:])
    path = Path(out[0] if out else f"{names[0]}.png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(data).savefig(path)
    except (OSError, ValueError) as error:
        raise ConfigError("out", path, f"cannot be written: {first_line(error)}", located=True) from error
    console.print(f"{data.name}: {describe(data)}\nsee {path}", highlight=False)


def join_overrides(typed: list[str]) -> list[str]:
    """Return names of the catalogue: each argument with `=` is joined to the name of the set before it."""
    names: list[str] = []
    for argument in typed:
        if "=" in argument and names:
            names[-1] += f" {argument}"
        else:
            names.append(argument)
    return names
