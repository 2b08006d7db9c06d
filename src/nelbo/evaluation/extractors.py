"""Feature extractors: the feature spaces in which generated images are compared with real ones.

Shapes: B batch, F features, C H W image.

An extractor is a class like `Classifier` and a file in `conf/extractor`, selected by `extractor=NAME`. For a subject it
returns a function from images to features, and a recipe that identifies this function: distances in different feature
spaces are different quantities and cannot be compared.
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
from nelbo.evaluation.classifier_cache import load_or_train
from nelbo.evaluation.measure import NotApplicable, Scalar, Subject


@dataclass(frozen=True)
class Extraction:
    """A function from images to features, and what identifies it.

    Args:
        function: maps images (B, C, H, W) in [0, 1], on the model's device, to features (B, F).
        recipe: what identifies the function: its name `extractor`, the SHA-256 of its weights `extractor_sha256`, ...
        warnings: what a reader of the numbers must know, a line each.
    """

    function: Callable[[Tensor], Tensor]
    recipe: Mapping[str, Scalar]
    warnings: tuple[str, ...] = ()


class Extractor(ABC):
    """Base class of the options of `extractor=`."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A key that is equal for extractors that return equal features for equal subjects."""

    @abstractmethod
    def prepare(self, subject: Subject) -> Extraction:
        """Return the function for the subject's images.

        Raises:
            NotApplicable: if the extractor cannot be used for these data.
        """


class Classifier(Extractor):
    """The penultimate layer of a small classifier, trained once for each data set (`nelbo.evaluation.classifier`).

    Its features distinguish the classes of these data, down to 8x8 pixels. It needs labels. Distances are comparable
    only if the SHA-256 of its weights is equal, and never with published ones.
    """

    @property
    def identity(self) -> str:
        """The name alone, because every subject's data set has exactly one classifier."""
        return "classifier"

    def prepare(self, subject: Subject) -> Extraction:
        """Load the classifier of the subject's data, or train it.

        Raises:
            NotApplicable: if the data have no labels, or most of them are withheld.
            DataError: if the cache cannot be written.
        """
        if (known := subject.data.get("labelled")) is not None:
            hint = f"needs all training labels, and data.labelled={known} keeps few; use extractor=inception"
            raise NotApplicable(f"extractor=classifier: {hint}")
        classifier = load_or_train(subject)
        recipe: dict[str, Scalar] = {"extractor": self.identity, "extractor_sha256": classifier.sha256}
        if classifier.accuracy is not None:
            recipe["extractor_accuracy"] = classifier.accuracy
        net = classifier.net.to(subject.device)
        return Extraction(net.features, recipe, classifier.warnings)


class Inception(Extractor):
    """The 2048 pooled features of the Inception network of Heusel et al. 2017, through torchmetrics and torch-fidelity.

    Images are rounded to 8 bits, grey ones repeated in three channels, and enlarged without antialiasing, as in the
    original implementation. Nothing is downloaded: the file of the weights is the one that torch-fidelity publishes as
    `weights-inception-2015-12-05-6726825d.pth`.

    Args:
        weights: path of that file.

    Raises:
        ConfigError: if the file does not exist, or the packages of the extra `inception` are not installed.
    """

    def __init__(self, *, weights: str) -> None:
        self.weights = path("weights", weights)
        if not self.weights.is_file():
            hint = "no such file; download the weights that torch-fidelity publishes, or use extractor=classifier"
            raise _refused(weights, hint)
        self._module()

    @property
    def identity(self) -> str:
        """The name and the path of the weights."""
        return f"inception {self.weights}"

    def prepare(self, subject: Subject) -> Extraction:
        """Load the network.

        Raises:
            NotApplicable: if x are vectors, real-valued, or images with neither one nor three channels.
            ConfigError: if the file does not hold the weights of this network.
        """
        channels = subject.model.shape[0]
        if len(subject.model.shape) != 3 or subject.model.value_range is not None:
            raise NotApplicable("extractor=inception needs images of pixels in [0, 1], and these data are others")
        if channels not in (1, 3):
            raise NotApplicable(f"extractor=inception needs grey or RGB images, and these have {channels} channels")
        try:
            # torch-fidelity unpickles the file without restrictions; this raises if it holds anything but tensors.
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
            pooled: Tensor = net((x * 255).round().byte().expand(-1, 3, -1, -1))
            return pooled

        return Extraction(features, {"extractor": "inception", "extractor_sha256": file_sha256(self.weights)})

    def _module(self) -> Any:
        """Return torchmetrics' class of the network.

        Raises:
            ConfigError: if a package is missing.
        """
        try:
            import torch_fidelity  # noqa: F401
            from torchmetrics.image.fid import NoTrainInceptionV3
        except (ImportError, RuntimeError) as error:
            hint = f"needs pip install torch-fidelity, with a torchvision built for this torch ({first_line(error)})"
            raise _refused(str(self.weights), hint) from error
        return NoTrainInceptionV3


def _refused(weights: str, hint: str) -> ConfigError:
    """Return the error with the key that users type: in the config each measure has a copy of the extractor."""
    return ConfigError("extractor.weights", weights, hint, located=True)


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of the bytes of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
