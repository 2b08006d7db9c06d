"""Export of a finished model: its parts as ONNX or torch.export programs, or its weights as a .safetensors file.

Shapes: B batch, C H W image, N numbers of noise.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nelbo.checkpoints.hub import MODEL
from nelbo.checkpoints.tensors_file import write_tensors
from nelbo.distributions import DiagonalNormal, Flow
from nelbo.errors import ConfigError, NelboError, first_line
from nelbo.finished.destination import refuse_full
from nelbo.finished.model_card import FILE as CARD
from nelbo.finished.model_card import card
from nelbo.finished.run import FinishedRun
from nelbo.models import Model
from nelbo.models.context import required_names
from nelbo.numerics.randomness import isolated

FORMATS = ("onnx", "torch.export", "safetensors")
SUFFIXES = {"onnx": ".onnx", "torch.export": ".pt2"}
TRIED, SIZES = 3, (1, 4)
"""The size of the batch that a program is made with, and those that it is compared on."""

TOLERANCE = 1e-4
"""The largest difference from the model, relative to the larger of 1 and its value."""

INSTALL = "needs packages: pip install onnx onnxruntime onnxscript"


class Encoder(nn.Module):
    """From x, (B, *shape), to the modes of q(z|x) of every level, top first, (B, *event) each."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the codes of x."""
        trace = self.model.draw(x, self.model.infer(x), 1, mode=True)
        return tuple(latent.z[0] for latent in trace.latents)


class Decoder(nn.Module):
    """From z of every level, top first, (B, *event) each, to the mean of p(x|z), (B, *shape)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, *zs: Tensor) -> Tensor:
        """Return the mean of p(x|z)."""
        mean: Tensor = self.model.decode(*zs).mean
        return mean


class Sampler(nn.Module):
    """From standard normal noise, (B, N), to the mean of p(x|z) at the z ~ p(z) that it makes, (B, *shape)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    @property
    def size(self) -> int:
        """N, the number of latents of all levels."""
        return self.model.events[0][0] + self.model.noise_size

    def forward(self, noise: Tensor) -> Tensor:
        """Return the mean of p(x|z)."""
        first, rest = noise.split([self.model.events[0][0], self.model.noise_size], dim=-1)
        p = self.model.top_prior()
        if isinstance(p, Flow):
            top = p.transform(p.base.loc + p.base.scale * first)
        else:
            assert isinstance(p, DiagonalNormal)
            top = p.loc + p.scale * first
        # The levels below take z of those above, (S, B, ...), here with one sample.
        zs = self.model.unfold(top.unsqueeze(0), rest.unsqueeze(0))
        mean: Tensor = self.model.decode(*(z.squeeze(0) for z in zs)).mean
        return mean


@dataclass(frozen=True)
class Part:
    """A part of a model that is exported.

    Args:
        module: from tensors with a first dimension of B to such tensors.
        inputs: names of its inputs.
        outputs: names of its outputs.
        example: makes inputs of B examples.
    """

    module: nn.Module
    inputs: Sequence[str]
    outputs: Sequence[str]
    example: Callable[[int], tuple[Tensor, ...]]


def parts_of(model: Model) -> tuple[dict[str, Part], list[str]]:
    """Return the parts of a model by name, and what is left out, with the reason."""
    low, high = model.value_range or (0.0, 1.0)
    z = ["z"] if len(model.events) == 1 else [f"z_{level}" for level in range(1, len(model.events) + 1)]
    encoder, sampler = Encoder(model), Sampler(model)

    def images(count: int) -> tuple[Tensor]:
        return (low + (high - low) * torch.rand(count, *model.shape),)

    parts = {
        "encoder": Part(encoder, ["x"], z, images),
        "decoder": Part(Decoder(model), z, ["x_mean"], lambda count: model.sample(count)),
    }
    p = model.top_prior()
    if len(model.events[0]) == 1 and isinstance(p, DiagonalNormal | Flow) and not p.batch_shape:
        parts["sampler"] = Part(sampler, ["noise"], ["x_mean"], lambda count: (torch.randn(count, sampler.size),))
        return parts, []
    kind = type(p).__name__
    return parts, [f"sampler: samples of a prior of type {kind} are no function of normal noise; see Model.sample"]


@torch.no_grad()
def export(run: FinishedRun, formats: Sequence[str], out: Path, weights: str = MODEL) -> list[str]:
    """Write a finished model in some formats, with a model card, and compare each program with the model.

    Args:
        run: the run, at a setting where its model needs one.
        formats: names of `FORMATS`.
        out: the folder, which must not exist or be empty.
        weights: what `nelbo.load` takes in the model card's code, if not the file in the folder.

    Returns:
        What was written, a line each, with paths.

    Raises:
        ConfigError: for another format, a folder with files in it, or a model that still needs a setting.
        NelboError: if packages are missing, a part cannot be exported, or its program differs from the model.
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError("format", name, f"must be one of {', '.join(FORMATS)}", located=True)
    if names := required_names(run.model):
        raise ConfigError("at", {}, f"the model needs {', '.join(f'at.{name}=...' for name in names)}", located=True)
    refuse_full(out)
    model, fresh = run.model.cpu().eval(), not out.exists()
    written: dict[str, str] = {}
    notes: list[str] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in formats:
            if name == "safetensors":
                written |= _weights(run, out)
                continue
            parts, notes = parts_of(model)
            written |= _programs(model, parts, name, out)
        (out / CARD).write_text(card(run, formats, written, notes, weights), encoding="utf-8")
    except BaseException as error:
        _empty(out, fresh)
        if isinstance(error, OSError):
            raise ConfigError("out", out, f"cannot be written: {error.strerror}", located=True) from error
        raise
    lines = [f"{out / name}: {text}" for name, text in {**written, CARD: "model card"}.items()]
    return [*lines, *(f"left out: {note}" for note in notes)]


def _weights(run: FinishedRun, out: Path) -> dict[str, str]:
    """Write the weights with the record of the run; return the file's name, and what it is."""
    if run.setting:
        raise ConfigError("format", "safetensors", "has all settings; leave at.NAME=... out", located=True)
    file = out / MODEL
    state = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    write_tensors(file, run.record, state, run.step)
    return {file.name: f"{sum(value.numel() for value in state.values()):,} numbers, for nelbo.load"}


def _programs(model: Model, parts: Mapping[str, Part], kind: str, out: Path) -> dict[str, str]:
    """Write the parts of a model as programs, and compare each with the model; return what each file is."""
    written, checks = {}, model.checks_pixels
    model.checks_pixels = False  # a program has no checks that depend on values
    try:
        for name, part in parts.items():
            file = out / f"{name}{SUFFIXES[kind]}"
            with isolated(0):
                run = (_onnx if kind == "onnx" else _torch)(part, file)
                difference = max(_difference(part, run, count) for count in SIZES)
            if not difference <= TOLERANCE:
                raise NelboError(f"{file}: differs from the model by {difference:.2g}, more than {TOLERANCE:g}")
            names = f"{', '.join(part.inputs)} to {', '.join(part.outputs)}"
            written[file.name] = f"{names}, within {difference:.1g} of the model"
    finally:
        model.checks_pixels = checks
    return written


Run = Callable[[tuple[Tensor, ...]], Sequence[Tensor]]


def _difference(part: Part, run: Run, count: int) -> float:
    """Return how far the results of a program are from those of the model, relative to the larger of 1 and these."""
    inputs = part.example(count)
    expected = part.module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    pairs = zip(run(inputs), expected, strict=True)
    return max(float(((got - wanted).abs() / wanted.abs().clamp_min(1)).max()) for got, wanted in pairs)


def _traced(part: Part, file: Path) -> torch.export.ExportedProgram:
    """Return a part as a program for any number of examples.

    Raises:
        NelboError: if it cannot be traced.
    """
    example = part.example(TRIED)
    batch = {0: torch.export.Dim("batch")}
    shapes = (tuple(batch for _ in example),) if len(part.inputs) > 1 or part.inputs[0] == "z" else (batch,)
    try:
        return torch.export.export(part.module, example, dynamic_shapes=shapes)
    except Exception as error:  # torch raises any kind of exception from within
        raise NelboError(f"{file}: the model cannot be traced: {first_line(error)}") from error


def _torch(part: Part, file: Path) -> Run:
    """Write a part as a program of torch.export; return it as it is read back."""
    with _quiet():
        torch.export.save(_traced(part, file), file)
        program = torch.export.load(file).module()

    def run(inputs: tuple[Tensor, ...]) -> Sequence[Tensor]:
        results = program(*inputs)
        return results if isinstance(results, tuple | list) else (results,)

    return run


def _onnx(part: Part, file: Path) -> Run:
    """Write a part as an ONNX program; return it as onnxruntime runs it.

    Raises:
        NelboError: if packages are missing, or the part has an operation without an ONNX form.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 # torch.onnx needs it
    except ModuleNotFoundError as error:
        raise NelboError(f"{file}: {INSTALL}") from error
    traced = _traced(part, file)
    with _quiet():
        try:
            program = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
            )
        except Exception as error:  # as above
            raise NelboError(f"{file}: has an operation without an ONNX form: {first_line(error)}") from error
    assert program is not None
    program.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(inputs: tuple[Tensor, ...]) -> Sequence[Tensor]:
        given = {name: value.numpy() for name, value in zip(part.inputs, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, given)]

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Run a block without the warnings of torch's exporters about packages and internals that do not matter here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _empty(out: Path, fresh: bool) -> None:
    """Remove what a failed export left in its folder, and the folder itself if it was made for it."""
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
        return
    for file in out.iterdir():
        file.unlink()
