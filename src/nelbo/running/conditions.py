"""What of the data a model is conditioned on: how many classes, or numbers, each name stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nelbo.data.arrays import FACTORS, LABEL, OBSERVED, Batch
from nelbo.data.run_data import Known, RunData
from nelbo.errors import ConfigError
from nelbo.models import MaskedInputs, Model
from nelbo.models.kinds import checked_names

SPLITS = ("train", "val", "test")
KEY = "model.conditioning.names"
INFER = "conditioning=semi_supervised infers it"


def infers(model: Mapping[str, Any]) -> bool:
    """Return whether the model of a config infers labels.

    Raises:
        ConfigError: if it is to, and has several levels.
    """
    if "classifier" not in model:
        return False
    if model["classifier"] is None:
        raise ConfigError(
            "model.classifier", None, "is the network that conditioning=semi_supervised needs", located=True
        )
    if "latent_dim" not in model:
        hint = "is for models of one level of latents, such as model=mlp_vae or conv_vae"
        raise ConfigError("conditioning", "semi_supervised", hint, located=True)
    return True


def check_labelled(data: Mapping[str, Any], conditioning: Mapping[str, Any] | None, *, inferred: bool) -> None:
    """Check that labels are withheld from a model that infers them.

    Args:
        data: the config of the data.
        conditioning: the config of what the model is conditioned on, or None.
        inferred: whether the model infers it where it is unknown.

    Raises:
        ConfigError: if labels are withheld, or labelled examples repeated, and the model does not infer labels.
    """
    for key, none in (("labelled", None), ("labelled_copies", 1)):
        value = data.get(key, none)
        if value == none:
            continue
        if not inferred:
            hint = "is for a model that infers labels: conditioning=semi_supervised"
            raise ConfigError(f"data.{key}", value, hint, located=True)
        if conditioning and list(conditioning["names"]) != [LABEL]:
            hint = f"is about the column {LABEL}, which the model does not infer; mark unknown ones by -1 in the data"
            raise ConfigError(f"data.{key}", value, hint, located=True)


def kinds_of(names: Sequence[str], data: RunData, *, inferred: bool = False) -> dict[str, int | list[int]]:
    """Return for each name the number of classes, or the shape of the numbers that one example has.

    A name is `label`, `factors`, or one of the columns of the data. Whole numbers are classes, from 0 up; factors and
    floats are numbers.

    Args:
        names: the names of the context.
        data: set up.
        inferred: whether the model infers unknown labels.

    Raises:
        ConfigError: if the data do not have a name, all of its labels are the same, or some are unknown that the model
            does not infer.
    """
    return {name: kind_of(name, data, inferred=inferred) for name in checked_names(KEY, names)}


def check_kinds(kinds: object, names: Sequence[str], data: RunData, *, inferred: bool = False) -> None:
    """Check kinds that are typed against the data, which may have fewer classes.

    Raises:
        ConfigError: if they are other ones.
    """
    known = kinds_of(names, data, inferred=inferred)
    fits = isinstance(kinds, Mapping) and kinds.keys() == known.keys()
    for name, kind in known.items() if fits else ():
        typed = kinds[name]  # type: ignore[index]
        more = isinstance(kind, int) and isinstance(typed, int) and typed >= kind
        fits = fits and (more or typed == kind)
    if not fits:
        hint = f"does not fit {data.name}, which has {known}; leave it out"
        raise ConfigError("model.conditioning.kinds", kinds, hint)


def kind_of(name: str, data: RunData, *, inferred: bool = False) -> int | list[int]:
    """Return what one name stands for; see `kinds_of`."""
    splits = [data.splits[split] for split in SPLITS if len(data.splits[split])]
    columns = [column for split in splits if (column := split.known(name)) is not None]
    if len(columns) < len(splits):
        has = ", ".join(known_names(splits[0])) or "nothing but images"
        raise ConfigError(KEY, name, f"is not known of the images of {data.name}, which have {has}")
    if name == FACTORS or columns[0].is_floating_point():
        return list(columns[0].shape[1:])
    least, largest = min(int(column.min()) for column in columns), max(int(column.max()) for column in columns)
    if least < 0 and not inferred:
        unknown = sum(int((column < 0).sum()) for column in columns)
        total = sum(map(len, columns))
        raise ConfigError(KEY, name, f"is unknown of {unknown} of the {total} images of {data.name}; {INFER}")
    if largest < 0:
        raise ConfigError(KEY, name, f"is not known of any image of {data.name}")
    if max(least, 0) >= largest:
        raise ConfigError(KEY, name, f"is {largest} for all images of {data.name}, so it says nothing about them")
    if largest >= (total := sum(map(len, columns))):
        hint = f"has whole numbers up to {largest} for {total} examples; make them floats if they are no classes"
        raise ConfigError(KEY, name, hint)
    return max(largest + 1, len(data.classes) if name == LABEL else 0)


def refuse_masks(model: Model, data: RunData, start: Batch) -> None:
    """Check that a model is given masks of observed pixels where the data have them, and only there.

    Args:
        model: the model.
        data: set up.
        start: training examples.

    Raises:
        ConfigError: if it is not.
    """
    masked = not data.table and OBSERVED in start.columns
    if masked and OBSERVED not in model.context_names:
        hint = f"takes all pixels for known, and {data.name} has a mask of them; use inputs=masked, with one level of z"
        raise ConfigError("inputs", "none", hint, located=True)
    if isinstance(getattr(model, "inputs", None), MaskedInputs) and not masked:
        hint = f"needs a mask of observed pixels, which {data.name} does not have; use inputs=none"
        raise ConfigError("inputs", "masked", hint, located=True)


def known_names(examples: Known) -> list[str]:
    """Return the names of what is known of examples."""
    labels = examples.known(LABEL)
    label = [LABEL] if labels is not None and bool((labels >= 0).any()) else []
    return [*label, *([FACTORS] if examples.known(FACTORS) is not None else []), *examples.columns]
