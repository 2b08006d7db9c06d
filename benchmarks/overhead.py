"""The cost of the framework: training steps of train.py, a bare PyTorch loop, plain Lightning and pythae, in turn.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py [rounds=5] [models=mlp,conv,top_down] [steps=196,60,12]
                                                    [programs=nelbo,lean,bare,fused,lightning,pythae]

All train the same networks on dynamically binarized MNIST, with one thread and the batch size of the model's budget:
784-200-200-50 tanh units (`mlp`), the networks of `model=conv_vae` (`conv`), and `model=top_down_vae` with its flow
prior, without the average of weights and the clipping that are its defaults (`top_down`).

- `nelbo`: train.py with its default callbacks and loggers; `lean`: with callbacks=none logger=none.
- `bare`: a loop that indexes the uint8 images in memory and binarises whole batches, with the loss written out and
  torch's default Adam; no logging, no metrics, no checkpoints. `fused`: the same with fused Adam.
- `lightning`: a LightningModule with that loss and Adam, and a DataLoader(TensorDataset(...), shuffle=True), without
  loggers, progress bar and checkpoints.
- `pythae`: its VAE and BaseTrainer with the same networks, on images that were binarised once. It is left out where it
  is not installed, and for `top_down`, which it does not have. `pip install pythae` into an environment that also has
  nelbo; version 0.1.2 runs with torch 2.13 and pydantic 2.

Networks and memory format (channels_last of convolutions) are the same objects. Each program runs in a process of its
own, which is forked from this one, so that all start with everything imported. Measured is processor time, which other
programs on the machine disturb less than the time of day: of train.py its `train_cpu_seconds`. A round runs all
programs in turn; printed are the medians over the rounds, and the ratios within a round: median, least and largest.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from nelbo import priors
from nelbo.commands.train import main as train
from nelbo.data import mnist
from nelbo.heads import Bernoulli, DiagonalNormalPosterior
from nelbo.models import TopDownVAE
from nelbo.nets import ConvDecoder, ConvEncoder
from nelbo.training.trainer import quiet_lightning

SHAPE, RATE = (1, 28, 28), 2e-3
BATCH = {"mlp": 256, "conv": 128, "top_down": 64}
OPTIONS = {
    "mlp": ["model=tanh_mlp_vae"],
    "conv": ["model=conv_vae"],
    "top_down": [
        "model=top_down_vae",
        "optimizer=adam",
        "averaging=none",
        "trainer.gradient_clip_val=null",
        "lr_warm_up=0",
    ],
}


class Gaussian(nn.Module):
    """A VAE of two networks, with its loss written out."""

    def __init__(self, encoder: nn.Module, features: int, latent_dim: int, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.to_q = encoder, nn.Linear(features, 2 * latent_dim)
        self.decoder, self.head = decoder, head

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative ELBO of binary images in nats."""
        mu, log_sigma = self.to_q(self.encoder(x).flatten(1)).chunk(2, dim=-1)
        sigma = log_sigma.exp()
        logits = self.head(self.decoder(mu + sigma * torch.randn_like(mu)))
        target = x.reshape(logits.shape)
        reconstruction = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        kl = 0.5 * (mu.square() + sigma.square() - 2 * log_sigma - 1).sum()
        return (reconstruction + kl) / len(x)


class TopDown(nn.Module):
    """The model of `model=top_down_vae`, whose loss is one line."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.model = TopDownVAE(
            shape=SHAPE, latent_dim=32, layout=None, latent_channels=4, width=64, hidden=None, form="light", depth=2,
            top_width=256, output_width=16, features=None, activation="GELU", center=True,
            checkpoint_activations=False, posterior=DiagonalNormalPosterior,
            prior=partial(priors.Flow, kind="coupling", layers=6, hidden=[200]), likelihood=Bernoulli,
        )  # fmt: skip
        self.model.initialize(images[:1000].float() / 255)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative ELBO of binary images in nats."""
        trace = self.model.trace(x, 1)
        return (trace.kl - trace.log_px).mean()


def make(model: str, images: Tensor) -> Any:
    """Return the model that the loops train."""
    torch.manual_seed(0)
    if model == "mlp":
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
        decoder = nn.Sequential(nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
        return Gaussian(encoder, 200, 50, decoder, nn.Linear(200, 784))
    if model == "conv":
        encoder = ConvEncoder(SHAPE, channels=[32, 64, 64], activation="SiLU")
        decoder = ConvDecoder((8,), SHAPE, channels=[64, 64, 32, 16], activation="SiLU")
        features = encoder.out_shape[0] * encoder.out_shape[1] * encoder.out_shape[2]
        return Gaussian(encoder, features, 8, decoder, nn.Conv2d(16, 1, 1))
    return TopDown(images)


def binarized(grey: Tensor) -> Tensor:
    """Return a random binary image for each uint8 image, (B, 1, 28, 28)."""
    probabilities = grey.float() / 255
    return (torch.rand_like(probabilities) < probabilities).float()


def bare(model: str, images: Tensor, steps: int, *, fused: bool = False) -> float:
    """Return the processor seconds of the bare loop."""
    net = make(model, images)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=fused or None)
    start = time.process_time()
    for indices in torch.randperm(len(images))[: steps * BATCH[model]].split(BATCH[model]):
        loss = net.loss(binarized(images[indices]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - start


class Plain(pl.LightningModule):
    """The same in Lightning; it notes the processor time of its training."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.seconds = net, 0.0

    def on_train_epoch_start(self) -> None:
        """Start the clock."""
        self.seconds = -time.process_time()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        loss: Tensor = self.net.loss(binarized(batch[0]))
        self.log("loss", loss)
        return loss

    def on_train_epoch_end(self) -> None:
        """Stop the clock."""
        self.seconds += time.process_time()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return torch's default Adam."""
        return torch.optim.Adam(self.parameters(), lr=RATE)


def lightning(model: str, images: Tensor, steps: int) -> float:
    """Return the processor seconds of plain Lightning."""
    quiet_lightning()
    loader = DataLoader(TensorDataset(images), batch_size=BATCH[model], shuffle=True)
    off = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False)
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, limit_train_batches=steps, **off)
    module = Plain(make(model, images))
    trainer.fit(module, loader)
    return module.seconds


def pythae(model: str, images: Tensor, steps: int) -> float:
    """Return the processor seconds of pythae."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    net = make(model, images)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.to_q = net.encoder, net.to_q

        def forward(self, x: Tensor) -> ModelOutput:
            mu, log_variance = self.to_q(self.encoder(x).flatten(1)).chunk(2, dim=-1)
            return ModelOutput(embedding=mu, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.head = net.decoder, net.head

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.head(self.decoder(z)).sigmoid().reshape(-1, *SHAPE))

    config = VAEConfig(input_dim=SHAPE, latent_dim=net.to_q.out_features // 2, reconstruction_loss="bce")
    data = binarized(images[: steps * BATCH[model]])
    with tempfile.TemporaryDirectory() as folder:
        options = BaseTrainerConfig(
            output_dir=folder, num_epochs=1, learning_rate=RATE, per_device_train_batch_size=BATCH[model], no_cuda=True
        )
        trainer = BaseTrainer(
            model=VAE(config, encoder=Encoder(), decoder=Decoder()),
            train_dataset=BaseDataset(data, torch.zeros(len(data))),
            training_config=options,
        )
        trainer.prepare_training()
        start = time.process_time()
        trainer.train_step(epoch=1)
        return time.process_time() - start


def nelbo(model: str, images: Tensor, steps: int, *, lean: bool = False) -> float:
    """Return the processor seconds of the training batches of train.py."""
    short = ["trainer.max_epochs=1", f"trainer.limit_train_batches={steps}", "trainer.limit_val_batches=1"]
    chosen = [*OPTIONS[model], "data=binarized_mnist", *short, "trainer.limit_test_batches=1", "threads=1"]
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [
            "train.py",
            *chosen,
            *(("callbacks=none", "logger=none") if lean else ()),
            f"hydra.run.dir={folder}",
        ]
        train()
        return float(json.loads((Path(folder) / "metrics.json").read_text())["train_cpu_seconds"])


PROGRAMS: dict[str, Callable[[str, Tensor, int], float]] = {
    "nelbo": nelbo,
    "lean": partial(nelbo, lean=True),
    "bare": bare,
    "fused": partial(bare, fused=True),
    "lightning": lightning,
    "pythae": pythae,
}


def in_child(measure: Callable[[], float]) -> float:
    """Return what a function returns in a forked process, whose output is shown only if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        result, output = Path(folder) / "result", Path(folder) / "output"
        if not (child := os.fork()):
            with output.open("w") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
                try:
                    result.write_text(str(measure()))
                except BaseException:
                    traceback.print_exc()
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                os._exit(0)
        os.waitpid(child, 0)
        if not result.exists():
            raise RuntimeError(output.read_text())
        return float(result.read_text())


def pairs(programs: list[str]) -> Iterator[tuple[str, str]]:
    """Yield which programs are compared."""
    for ours in ("nelbo", "lean"):
        yield from ((ours, other) for other in programs if ours in programs and other not in ("nelbo", "lean"))


def main(arguments: list[str]) -> None:
    """Print the milliseconds of a step of each program, and the ratios."""
    given = {"rounds": "5", "models": "mlp,conv,top_down", "steps": "196,60,12", "programs": ",".join(PROGRAMS)}
    given |= dict(argument.split("=", 1) for argument in arguments)
    torch.set_num_threads(1)
    images = mnist().train.images[:50_000]
    for model, steps in zip(given["models"].split(","), map(int, given["steps"].split(",")), strict=True):
        missing = {"pythae"} if importlib.util.find_spec("pythae") is None or model == "top_down" else set[str]()
        chosen = [name for name in given["programs"].split(",") if name not in missing]
        times: dict[str, list[float]] = {name: [] for name in chosen}
        for number in range(int(given["rounds"])):
            first = number % len(chosen)  # another program begins each round
            for name in chosen[first:] + chosen[:first]:
                seconds = in_child(partial(PROGRAMS[name], model, images, steps))
                times[name].append(1000 * seconds / steps)
        for name, values in times.items():
            print(f"{model}, {name}: {statistics.median(values):.2f} ms per step", flush=True)
        for one, other in pairs(chosen):
            ratios = [a / b for a, b in zip(times[one], times[other], strict=True)]
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            print(f"{model}, {one} / {other}: {statistics.median(ratios):.3f} ({spread})", flush=True)


if __name__ == "__main__":
    if "--help" in sys.argv or "-h" in sys.argv:
        print(__doc__)
    else:
        main(sys.argv[1:])
