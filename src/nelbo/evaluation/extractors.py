"""What a picture shows, as features: the space in which samples are compared with images.

Shapes: B batch, F features, C H W image.

A way to extract features is a class like `Classifier` here and a file in `conf/extractor`, chosen by `extractor=NAME`:
it is given a subject, and answers with a function from images to features and a recipe that tells it from all others,
for distances in different feature spaces are different quantities.
"""

from __future__ import annotations

import hashlib
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nelbo.errors import ConfigError, first_line, path
from nelbo.evaluation.classifier_cache import trained
from nelbo.evaluation.measure import NoMeaning, Scalar, Subject


@dataclass(frozen=True)
class Extraction:
    """A function from images to features.

    Args:
        function: images (B, C, H, W) in [0, 1], on the model's device, to features (B, F).
        recipe: what tells it from others: `extractor`, its name, `extractor_sha256`, of its weights, ...
        warnings: what a reader of the numbers must know, a line each.
    """

    function: Callable[[Tensor], Tensor]
    recipe: Mapping[str, Scalar]
    warnings: tuple[str, ...] = ()


class Extractor(ABC):
    """One option of `extractor=`."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Equal for extractors that give equal features of equal subjects."""

    @abstractmethod
    def prepare(self, subject: Subject) -> Extraction:
        """The function, ready for the subject's images.

        Raises:
            NoMeaning: if there is no such function for these data.
        """


class Classifier(Extractor):
    """The penultimate layer of a small classifier, trained once for each data set (`nelbo.evaluation.classifier`).

    It sees the differences that matter for these data, down to 8x8 pixels, and needs labels. Distances are comparable
    where the SHA-256 of its weights is the same, so not with published ones.
    """

    @property
    def identity(self) -> str:
        """There is one for each data set."""
        return "classifier"

    def prepare(self, subject: Subject) -> Extraction:
        """Load the classifier of the subject's data, or train it.

        Raises:
            NoMeaning: without labels.
            DataError: if it cannot be kept where the subject says.
        """
        found = trained(subject)
        recipe: dict[str, Scalar] = {"extractor": self.identity, "extractor_sha256": found.sha256}
        if found.accuracy is not None:
            recipe["extractor_accuracy"] = found.accuracy
        net = found.net.to(subject.device)
        return Extraction(net.features, recipe, found.warnings)


class Inception(Extractor):
    """The 2048 pooled features of the Inception network of Heusel et al. 2017, through torchmetrics and torch-fidelity.

    Images become 8-bit, grey ones in three equal channels, and are enlarged as by the first implementation, without
    antialiasing. Nothing is downloaded: the weights are those that torch-fidelity publishes as
    `weights-inception-2015-12-05-6726825d.pth`.

    Args:
        weights: path of that file.

    Raises:
        ConfigError: if the file is not there, or the packages of the extra `inception` are not.
    """

    def __init__(self, *, weights: str) -> None:
        self.weights = path("weights", weights)
        if not self.weights.is_file():
            hint = "no such file; download the weights that torch-fidelity publishes, or extractor=classifier"
            raise _refused(weights, hint)
        self._module()

    @property
    def identity(self) -> str:
        """By the file."""
        return f"inception {self.weights}"

    def prepare(self, subject: Subject) -> Extraction:
        """Load the network.

        Raises:
            NoMeaning: for images that are neither grey nor of three channels.
            ConfigError: if the file holds something else.
        """
        channels = subject.model.shape[0]
        if channels not in (1, 3):
            raise NoMeaning(f"extractor=inception is for grey and RGB images, not for {channels} channels")
        try:
            # torch-fidelity unpickles the file without a check; this one lets nothing but tensors pass.
            torch.load(self.weights, map_location="cpu", weights_only=True)
            net = self._module()(
                name="inception-v3-compat",
                features_list=["2048"],
                feature_extractor_weights_path=str(self.weights),
                antialias=False,
            ).to(subject.device)
        except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError) as error:
            raise _refused(str(self.weights), f"not the weights of torch-fidelity: {first_line(error)}") from error

        @torch.no_grad()
        def features(x: Tensor) -> Tensor:
            found: Tensor = net((x * 255).round().byte().expand(-1, 3, -1, -1))
            return found

        return Extraction(features, {"extractor": "inception", "extractor_sha256": file_sha256(self.weights)})

    def _module(self) -> Any:
        try:
            import torch_fidelity  # noqa: F401
            from torchmetrics.image.fid import NoTrainInceptionV3
        except (ImportError, RuntimeError) as error:
            hint = f"needs pip install torch-fidelity, with a torchvision made for this torch ({first_line(error)})"
            raise _refused(str(self.weights), hint) from error
        return NoTrainInceptionV3


def _refused(weights: str, hint: str) -> ConfigError:
    """Told by the key that people type: each measure has a copy of the extractor."""
    return ConfigError("extractor.weights", weights, hint, located=True)


def file_sha256(file: Path) -> str:
    """Of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
