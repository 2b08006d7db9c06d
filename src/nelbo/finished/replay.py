"""The last step of a run that diverged, made again from its bundle.

Shapes: S Monte Carlo samples, B batch, D latent dimensions, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.checkpoints.container import read_plain
from nelbo.checkpoints.load import build_model
from nelbo.checkpoints.record import RECORD
from nelbo.config.build import build, user_prefixes
from nelbo.data.module import ImageData
from nelbo.errors import CheckpointError, first_line
from nelbo.finished.run import FinishedRun
from nelbo.models import VAE
from nelbo.numerics.precision import FLOAT32, float32
from nelbo.numerics.randomness import restore
from nelbo.objectives import Objective
from nelbo.terminal.console import make_console, print_table
from nelbo.trace import Trace
from nelbo.training.callbacks.crash import CRASH, FOLDER, FORMATS, Failure, failure
from nelbo.training.callbacks.random_states import last_bits

OBJECTIVE_PREFIXES = ("nelbo.objectives.", "nelbo.schedules.")
MOST_THREADS, MOST_SHARES = 1024, 2**31

# What a bundle must hold for a replay, and of which kind it must be.
KINDS: dict[str, type] = {
    "config": dict,
    "epoch": int,
    "step": int,
    "indices": Tensor,
    "random_states": dict,
    "state_dict": dict,
    "provenance": dict,
    "last_bits": dict,
    "failure": dict,
}


@dataclass(frozen=True)
class Replay:
    """A step that was made again.

    Args:
        recorded: how it failed in training.
        found: how it failed now.
        tensors: of the pass, by name: x (B, C, H, W), z (S, B, D), log p(x|z) and KL (S, B).
        images: the batch's positions among the training images, (B,).
        forward: the first module whose output was not finite, if any was.
        backward: the same of gradients of outputs; the backward pass goes from the last module to the first.
        differences: what last bits depend on and was otherwise in training.
    """

    recorded: Failure
    found: Failure
    tensors: Mapping[str, Tensor]
    images: Tensor
    forward: str | None
    backward: str | None
    differences: list[str]

    @property
    def is_exact(self) -> bool:
        """Whether the loss and every term are equal bit for bit, and the same gradients not finite."""
        was, now = self.recorded, self.found
        values = [(was.loss, now.loss), *((value, now.terms.get(name)) for name, value in was.terms.items())]
        return was.gradients == now.gradients and all(map(_same, *zip(*values, strict=True)))

    @property
    def is_reproduced(self) -> bool:
        """Whether the same went wrong."""
        was, now = self.recorded.not_finite, self.found.not_finite
        return bool(was) and was.keys() == now.keys()


def replay(file: Path, allow: Sequence[str] = (), moved: Mapping[str, Any] | None = None) -> Replay:
    """Make the step of a bundle again, on the kind of device that it was made on where there is one.

    Sets torch's threads and random state.

    Args:
        file: the bundle.
        allow: packages of one's own that model, data and objective may be made of, as of `nelbo.load`.
        moved: where its data lie now, if elsewhere, as of `FinishedRun`.

    Raises:
        CheckpointError: if it is no bundle, is damaged, or asks for what this version does not have.
        DataError: if its data cannot be had or is not what it was.
    """
    bundle = read_bundle(file)
    config, state, bits = bundle["config"], bundle["state_dict"], bundle["last_bits"]
    model = build_model({RECORD: {"model": config["model"]}, "state_dict": state}, file, allow)
    record = {"data": config["data"], "provenance": bundle["provenance"]}
    run = FinishedRun(file, record, bundle["step"], model, allow, moved)
    objective = build(config["objective"], "objective", (*OBJECTIVE_PREFIXES, *user_prefixes("allow_targets", allow)))
    if not isinstance(objective, Objective):
        raise CheckpointError(f"{file}: what it holds is not an objective but a {type(objective).__name__}")
    here = torch.accelerator.current_accelerator(check_available=True)
    device = here if here and here.type == bits.get("device") else torch.device("cpu")
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_is_mixed(config))
    try:
        prefix = "objective."
        objective.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        torch.set_num_threads(min(int(bits["threads"]), MOST_THREADS))
        rows, shares = [*bundle.get("before", []), bundle["indices"]], int(bundle.get("shares", 1))
        batches = [batch(run.data, indices, bundle["epoch"], device) for indices in rows]
        restore(bundle["random_states"], device)
        recorded = Failure(**bundle["failure"])
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:  # whatever a stranger put there
        raise CheckpointError(f"{file}: is damaged: {first_line(error)}") from error
    parts = nn.ModuleDict({"model": model, "objective": objective}).to(device).train()
    watch = Watch(model)
    with float32(config.get("float32")):
        with autocast:
            scheduled = model.advance(bundle["step"])
            for x in batches:
                trace = model.trace(x, objective.num_samples)
                loss = objective(trace, bundle["step"])
                (loss.total / shares).backward()
    return Replay(
        recorded=recorded,
        found=failure(loss.total.detach(), loss.terms | scheduled, parts),
        tensors=tensors_of(trace),
        images=bundle["indices"],
        forward=watch.forward,
        backward=watch.backward,
        differences=[
            f"{name} {bits.get(name)} in training and {value} now"
            for name, value in last_bits(device).items()
            if bits.get(name) != value
        ],
    )


def read_bundle(file: Path) -> dict[str, Any]:
    """The bundle's plain containers and tensors.

    Raises:
        CheckpointError: if it is damaged, or is no bundle.
    """
    if file.is_dir():
        raise CheckpointError(f"{file}: is a directory; the bundles of a run are {file / FOLDER}/step-*.pt")
    bundle = read_plain(file)
    if not isinstance(bundle, dict) or CRASH not in bundle:
        raise CheckpointError(f"{file}: is not a bundle of a run that diverged; those lie in its crash/")
    if type(bundle[CRASH]) is not int or bundle[CRASH] not in FORMATS:
        readable = " and ".join(map(str, FORMATS))
        raise CheckpointError(f"{file}: has format {bundle[CRASH]}, this nelbo reads {readable}")
    for key, kind in KINDS.items():
        if not isinstance(bundle.get(key), kind):
            raise CheckpointError(f"{file}: is damaged: it has no {key}")
    float32_setting = bundle["config"].get("float32")
    parts = (bundle["config"].get(part) for part in ("model", "data", "objective"))
    if (
        bundle["epoch"] < 0
        or bundle["step"] < 0
        or not all(isinstance(part, dict) and "_target_" in part for part in parts)
        or not (float32_setting is None or (isinstance(float32_setting, str) and float32_setting in FLOAT32))
    ):
        raise CheckpointError(f"{file}: is damaged: its config, epoch or step is none")
    before, shares = bundle.get("before", []), bundle.get("shares", 1)
    if not isinstance(before, list) or not all(isinstance(rows, Tensor) for rows in before):
        raise CheckpointError(f"{file}: is damaged: the earlier batches of its step are none")
    if not isinstance(shares, int) or not len(before) < shares <= MOST_SHARES:
        raise CheckpointError(f"{file}: is damaged: its losses are divided by {shares}")
    failed = bundle["failure"]
    terms, gradients = failed.get("terms"), failed.get("gradients")
    if (
        failed.keys() != {"loss", "terms", "gradients"}
        or not isinstance(terms, dict)
        or not all(isinstance(value, float) for value in (failed["loss"], *terms.values()))
        or not (isinstance(gradients, list) and all(isinstance(name, str) for name in gradients))
    ):
        raise CheckpointError(f"{file}: is damaged: it does not say what failed")
    return bundle


def batch(data: ImageData, indices: Tensor, epoch: int, device: torch.device) -> Tensor:
    """Training images as the model saw them, (B, C, H, W)."""
    raw = (part.to(device) for part in data.splits["train"].__getitems__(indices))
    x, _ = data.present("train", tuple(raw), epoch)  # type: ignore[arg-type] # of three, as it was
    return x


class Watch:
    """Finds the first module whose output is not finite, and the first whose output has such a gradient.

    Args:
        model: whose modules are watched, from now on.
    """

    def __init__(self, model: VAE) -> None:
        self.forward: str | None = None
        self.backward: str | None = None
        for name, module in model.named_modules():
            if name:
                module.register_forward_hook(lambda module, _, output, name=name: self._look(name, module, output))

    def _look(self, name: str, module: nn.Module, output: object) -> None:
        told = f"{name} ({type(module).__name__})"
        for value in parts_of(output):
            if self.forward is None and not value.isfinite().all():
                self.forward = told
            if value.requires_grad:
                value.register_hook(lambda gradient: self._look_back(told, gradient))

    def _look_back(self, told: str, gradient: Tensor) -> None:
        if self.backward is None and not gradient.isfinite().all():
            self.backward = told


def parts_of(output: object) -> Iterator[Tensor]:
    """The floating tensors that a module's output, a tensor or a distribution, is made of."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Distribution):
        for part in list(vars(output).values()):
            yield from parts_of(part)


def tensors_of(trace: Trace) -> dict[str, Tensor]:
    """What is worth a look, by name."""
    found = {"x": trace.x}
    for level, latent in enumerate(trace.latents):
        found["z" if len(trace.latents) == 1 else f"z, level {level + 1}"] = latent.z
    found["log p(x|z)"] = trace.log_px
    if trace.has_kl:
        found["KL"] = trace.kl
    return {name: value.detach() for name, value in found.items()}


def print_replay(done: Replay) -> None:
    """For a person."""
    console = make_console()
    terms = Table("term", "in training", "now", title="nats an image, and weights")
    for name, value in (*done.recorded.terms.items(), ("loss", done.recorded.loss)):
        now = done.found.loss if name == "loss" else done.found.terms.get(name, math.nan)
        terms.add_row(name, f"{value!r}", f"{now!r}")
    print_table(terms, console)
    tensors = Table("tensor", "shape", "least", "mean", "most", "not finite", title="the batch")
    for name, tensor in done.tensors.items():
        values = tensor.float()
        finite = values[values.isfinite()]
        told = [f"{value:.5g}" for value in (finite.min(), finite.mean(), finite.max())] if len(finite) else ["-"] * 3
        count = values.numel() - len(finite)
        tensors.add_row(name, " x ".join(map(str, tensor.shape)), *told, f"{count} of {values.numel()}")
    print_table(tensors, console)
    notes = {
        "images": _images(done),
        "forward": f"first output that is not finite: {done.forward or 'none, it is in the loss itself or later'}",
        "backward": f"first output whose gradient is not finite: {done.backward or 'none'}",
        "differs": "; ".join(done.differences),
        "training": str(done.recorded),
        "replay": f"{done.found}: {_verdict(done)}",
    }
    for name, note in notes.items():
        if note:
            console.print(f"{name:<10} {note}", highlight=False, markup=False)


def _images(done: Replay) -> str:
    """Which of the training images are to blame, where it is not all."""
    bad = torch.zeros(len(done.images), dtype=torch.bool)
    for name in ("log p(x|z)", "KL"):
        if name in done.tensors:
            bad |= ~done.tensors[name].cpu().isfinite().all(dim=0)
    return f"not finite for training images {done.images[bad].tolist()}" if 0 < bad.sum() < len(bad) else ""


def _verdict(done: Replay) -> str:
    if not done.is_reproduced:
        return "not reproduced"
    return "reproduced, bit for bit" if done.is_exact else "reproduced, with other last bits"


def _same(was: float, now: float | None) -> bool:
    return was == now or (now is not None and math.isnan(was) and math.isnan(now))


def _is_mixed(config: Mapping[str, Any]) -> bool:
    trainer = config.get("trainer")
    return isinstance(trainer, dict) and trainer.get("precision") == "bf16-mixed"
