"""The last step of a run that diverged, computed again from its crash bundle.

Shapes: S Monte Carlo samples, B batch, D latent dimensions, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.checkpoints.load import build_model
from nelbo.checkpoints.record import RECORD
from nelbo.config.build import build, user_prefixes
from nelbo.data.arrays import Batch
from nelbo.data.run_data import RunData
from nelbo.errors import CheckpointError, first_line
from nelbo.finished.bundle import read_bundle
from nelbo.finished.run import FinishedRun
from nelbo.models import Model
from nelbo.numerics.precision import float32
from nelbo.numerics.randomness import restore
from nelbo.objectives import Objective
from nelbo.trace import Trace
from nelbo.training.batches import training_trace
from nelbo.training.callbacks.crash import Failure, failure
from nelbo.training.callbacks.random_states import last_bits

OBJECTIVE_PREFIXES = ("nelbo.objectives.", "nelbo.schedules.")
MAX_THREADS = 1024


@dataclass(frozen=True)
class Replay:
    """A training step that was computed again.

    Args:
        recorded: how the step failed in training.
        replayed: how it failed now.
        tensors: the tensors of the pass by name: x (B, C, H, W), z (S, B, D), log p(x|z) and KL (S, B), in nats.
        images: the positions of the batch among the training images, (B,).
        forward: the first module whose output was not finite; None if all were.
        backward: the first module, in the order of the backward pass, for which the gradient of the output was not
            finite; None if all were.
        differences: differences of the environment from that of training that can change the last bits of numbers.
    """

    recorded: Failure
    replayed: Failure
    tensors: Mapping[str, Tensor]
    images: Tensor
    forward: str | None
    backward: str | None
    differences: list[str]

    @property
    def is_exact(self) -> bool:
        """Whether the loss and every term are equal bit for bit, and the same gradients are not finite."""
        was, now = self.recorded, self.replayed
        values = [(was.loss, now.loss), *((value, now.terms.get(name)) for name, value in was.terms.items())]
        return was.gradients == now.gradients and all(map(_same, *zip(*values, strict=True)))

    @property
    def is_reproduced(self) -> bool:
        """Whether the same values are not finite as in training."""
        was, now = self.recorded.not_finite, self.replayed.not_finite
        return bool(was) and was.keys() == now.keys()


def replay(file: Path, allow: Sequence[str] = (), moved: Mapping[str, Any] | None = None) -> Replay:
    """Compute the step of a bundle again, on the kind of device of the training where there is one.

    This sets torch's number of threads and random state.

    Args:
        file: the bundle.
        allow: packages of the user's own that model, data and objective may be made of, as in `nelbo.load`.
        moved: new options of the data's source, if the data were moved, as in `FinishedRun`.

    Raises:
        CheckpointError: if the file is not a bundle, is damaged, or needs objects that this version does not have.
        DataError: if the data cannot be loaded, or are not those of the training.
    """
    bundle = read_bundle(file)
    config, state, bits = bundle["config"], bundle["state_dict"], bundle["last_bits"]
    model = build_model({RECORD: {"model": config["model"]}, "state_dict": state}, file, allow)
    record = {"data": config["data"], "provenance": bundle["provenance"]}
    run = FinishedRun(file, record, bundle["step"], model, allow, moved)
    objective = build(config["objective"], "objective", (*OBJECTIVE_PREFIXES, *user_prefixes("allow_targets", allow)))
    if not isinstance(objective, Objective):
        raise CheckpointError(f"{file}: its objective is not an Objective but a {type(objective).__name__}")
    here = torch.accelerator.current_accelerator(check_available=True)
    device = here if here and here.type == bits.get("device") else torch.device("cpu")
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_is_mixed(config))
    try:
        prefix = "objective."
        objective.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        torch.set_num_threads(min(int(bits["threads"]), MAX_THREADS))
        rows, shares = [*bundle.get("before", []), bundle["indices"]], int(bundle.get("shares", 1))
        batches = [batch(run.data, indices, bundle["epoch"], device) for indices in rows]
        restore(bundle["random_states"], device)
        recorded = Failure(**bundle["failure"])
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:  # from any value in the file
        raise CheckpointError(f"{file}: is damaged: {first_line(error)}") from error
    parts = nn.ModuleDict({"model": model, "objective": objective}).to(device).train()
    watch = Watch(model)
    with float32(config.get("float32")):
        scheduled = model.advance(bundle["step"])
        for examples in batches:
            with autocast:
                trace = training_trace(model, examples, objective.num_samples)
                loss = objective(trace, bundle["step"])
            (loss.total / shares).backward()  # outside of autocast, as in training
    return Replay(
        recorded=recorded,
        replayed=failure(loss.total.detach(), loss.terms | scheduled, parts),
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


def batch(data: RunData, indices: Tensor, epoch: int, device: torch.device) -> Batch:
    """Return training examples as the model saw them.

    Args:
        data: the data module, set up.
        indices: the positions of the images in the training array, (B,).
        epoch: the epoch, which decides their augmentation and noise.
        device: the device of the result.
    """
    return data.read("train", indices, epoch=epoch, device=device)


class Watch:
    """Hooks that record the first module with an output, or a gradient of its output, that is not finite.

    Args:
        model: the model whose modules are watched.
    """

    def __init__(self, model: Model) -> None:
        self.forward: str | None = None
        self.backward: str | None = None
        for name, module in model.named_modules():
            if name:
                label = f"{name} ({type(module).__name__})"
                module.register_forward_hook(lambda _, __, output, label=label: self._check_output(label, output))

    def _check_output(self, label: str, output: object) -> None:
        for value in parts_of(output):
            if self.forward is None and not value.isfinite().all():
                self.forward = label
            if value.requires_grad:
                value.register_hook(lambda gradient: self._check_gradient(label, gradient))

    def _check_gradient(self, label: str, gradient: Tensor) -> None:
        if self.backward is None and not gradient.isfinite().all():
            self.backward = label


def parts_of(output: object) -> Iterator[Tensor]:
    """Yield the floating-point tensors of a module's output, which is a tensor or a distribution."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Distribution):
        for part in list(vars(output).values()):
            yield from parts_of(part)


def tensors_of(trace: Trace) -> dict[str, Tensor]:
    """Return the tensors of a trace to print, by name."""
    tensors = {"x": trace.x}
    for level, latent in enumerate(trace.latents):
        tensors["z" if len(trace.latents) == 1 else f"z, level {level + 1}"] = latent.z
    tensors["log p(x|z)"] = trace.log_px
    if trace.has_kl:
        tensors["KL"] = trace.kl
    return {name: value.detach() for name, value in tensors.items()}


def _same(was: float, now: float | None) -> bool:
    return was == now or (now is not None and math.isnan(was) and math.isnan(now))


def _is_mixed(config: Mapping[str, Any]) -> bool:
    trainer = config.get("trainer")
    return isinstance(trainer, dict) and trainer.get("precision") == "bf16-mixed"
