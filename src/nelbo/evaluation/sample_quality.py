"""Distances between generated and real images in a feature space.

Shapes: N images, M generated images, F features, C H W image.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from nelbo.errors import at_most, choice, positive_integer
from nelbo.evaluation.extractors import Extraction, Extractor
from nelbo.evaluation.feature_distances import frechet_distance, kernel_distance
from nelbo.evaluation.generated import PIXELS, checked_temperature, generate, temperature_scalar
from nelbo.evaluation.likelihood import require_whole_images
from nelbo.evaluation.measure import TRIAL, Findings, Measure, NotApplicable, Subject
from nelbo.evaluation.prdc import prdc
from nelbo.views.images import evenly_spaced

FEW_FEATURES = 256
"""Features in a trial that estimates the duration of FID, which is cubic in the number of features."""


class SampleQuality(Measure):
    """Base class of measures that compare features of generated images with those of the split that is evaluated.

    The values include the settings, `NAME_extractor`, `NAME_generated`, ... Results for different extractors, for
    different numbers of images, or for samples and means of p(x|z) are not comparable.

    Args:
        extractor: feature extractor.
        num_generated: M.
        temperature: temperature of p(z), one number or one for each level of latents; 1 for p(z) itself.
        pixels: `sample` of p(x|z), so that images are samples of the model's own p(x), or `mean` of p(x|z).
        limit: largest number of images of the split; None for all.
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        extractor: Extractor,
        num_generated: int,
        temperature: float | Sequence[float],
        pixels: str,
        limit: int | None,
    ) -> None:
        self.extractor = extractor
        self.num_generated = positive_integer("num_generated", num_generated)
        self.temperature = checked_temperature(temperature)
        self.pixels = choice("pixels", pixels, PIXELS)
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if pixels are unknown, the extractor cannot be used for the data, or images are too few.
        """
        require_whole_images(subject, self.name)
        extraction = self.extraction(subject)
        real, generated = self.features(subject, subject.split, self.limit), self.generated_features(subject)
        if min(len(real), len(generated)) < 2:
            raise NotApplicable(f"{self.name} needs at least two generated images and two of the split")
        findings = Findings(warnings=list(extraction.warnings))
        recipe = {
            **extraction.recipe,
            "generated": len(generated),
            "images": len(real),
            "pixels": self.pixels,
            "temperature": temperature_scalar(self.temperature),
        }
        findings.values = {f"{self.name}_{key}": value for key, value in recipe.items()}
        findings.recipe = {key: value for key, value in findings.values.items() if not key.endswith("_accuracy")}
        self.compare(subject, real, generated, findings)
        return findings

    @abstractmethod
    def compare(self, subject: Subject, real: Tensor, generated: Tensor, findings: Findings) -> None:
        """Add values that compare features (N, F) and (M, F) to `findings`."""

    def extraction(self, subject: Subject) -> Extraction:
        """Return the function from images to features."""
        key = ("extraction", self.extractor.identity)
        extraction: Extraction = subject.once(key, lambda: self.extractor.prepare(subject))
        return extraction

    def features(self, subject: Subject, split: str, limit: int | None) -> Tensor:
        """Return the features of a split's images, (N, F)."""
        function = self.extraction(subject).function

        def compute() -> Tensor:
            return subject.map(f"features of {split}", lambda x: {"": function(x)}, split=split, limit=limit)[""]

        features: Tensor = subject.once(("images", self.extractor.identity, split, limit), compute)
        return features

    def generated_features(self, subject: Subject) -> Tensor:
        """Return the features of generated images, (M, F)."""
        function = self.extraction(subject).function
        key = ("generated", self.extractor.identity, self.num_generated, self.temperature, self.pixels)

        def compute() -> Tensor:
            return generate(
                subject,
                "features of samples",
                self.num_generated,
                function,
                temperature=self.temperature,
                pixels=self.pixels,
            )

        features: Tensor = subject.once(key, compute)
        return features


class FID(SampleQuality):
    """The Frechet distance of Gaussians fitted to features (Heusel et al. 2017, eq. 6).

    FID is biased: two finite sets of the same distribution have a positive distance, which grows as either set gets
    smaller. `fid_reference` is the FID of a perfect model: the distance between the split's images and as many training
    images as were generated. With `extractor=classifier`, which was trained on these training images, `fid_reference`
    is slightly larger than with unseen images instead.
    """

    name = "fid"

    def compare(self, subject: Subject, real: Tensor, generated: Tensor, findings: Findings) -> None:
        """Add `fid` and `fid_reference`."""
        few = [features[:, :FEW_FEATURES] for features in (real, generated)]
        subject.estimate_duration(
            "fid, covariances", 2 * (real.shape[1] / FEW_FEATURES) ** 3, lambda: frechet_distance(*few)
        )
        findings.values["fid"] = frechet_distance(real, generated)
        if (fewest := min(len(real), len(generated))) <= real.shape[1]:
            findings.warnings.append(
                f"fid: {fewest} images are too few for the covariance of {real.shape[1]} features; use metrics=[kid]"
            )
        if subject.split == "train":
            findings.warnings.append(
                "fid_reference is not reported, because split=train would be compared with itself; use split=test"
            )
        else:
            reference = self.features(subject, "train", len(generated))
            findings.values |= {
                "fid_reference": frechet_distance(real, reference),
                "fid_reference_images": len(reference),
            }
            if len(reference) < len(generated):
                findings.warnings.append(
                    f"fid_reference is of all {len(reference)} training images, and fid of {len(generated)} generated "
                    f"images; fewer images have a larger distance, so the fid of a perfect model would be below the "
                    f"reference; metrics.fid.num_generated={len(reference)} makes both comparable"
                )


class KID(SampleQuality):
    """The squared maximum mean discrepancy of features under a cubic kernel (Binkowski et al. 2018), unbiased.

    `kid` is the mean over random subsets, and `kid_subset_std` the standard deviation between them, which is not the
    standard error of the mean, because subsets share images. For two equal distributions the expectation is 0, so the
    value may be negative.

    Args:
        extractor: feature extractor.
        num_generated: M.
        temperature: temperature of p(z), one number or one for each level of latents; 1 for p(z) itself.
        pixels: `sample` of p(x|z), so that images are samples of the model's own p(x), or `mean` of p(x|z).
        limit: largest number of images of the split; None for all.
        subsets: number of subsets.
        subset_size: images in each subset; at most half of all images are used, so that subsets differ.
    """

    name = "kid"

    def __init__(
        self,
        *,
        extractor: Extractor,
        num_generated: int,
        temperature: float | Sequence[float],
        pixels: str,
        limit: int | None,
        subsets: int,
        subset_size: int,
    ) -> None:
        super().__init__(
            extractor=extractor, num_generated=num_generated, temperature=temperature, pixels=pixels, limit=limit
        )
        self.subsets = positive_integer("subsets", subsets)
        self.subset_size = positive_integer("subset_size", subset_size)

    def compare(self, subject: Subject, real: Tensor, generated: Tensor, findings: Findings) -> None:
        """Add `kid` and `kid_subset_std`."""
        size = min(self.subset_size, len(real) // 2, len(generated) // 2)
        if size < 2:
            raise NotApplicable(
                "kid needs subsets of at least two images, and therefore four generated images and four of the split"
            )
        with subject.random_state("kid, trial", 0):
            subject.estimate_duration("kid", self.subsets, lambda: kernel_distance(real, generated, 1, size))
        with subject.random_state("kid", 0):
            kid, deviation = kernel_distance(real, generated, self.subsets, size)
        sizes = {"kid_subsets": self.subsets, "kid_subset_size": size}
        findings.values |= {"kid": kid, "kid_subset_std": deviation, **sizes}
        findings.recipe |= sizes


class PRDC(SampleQuality):
    """Precision and density (fidelity), recall and coverage (diversity), from nearest neighbours; see `prdc`.

    Equal numbers of generated and real images are compared, because recall and coverage depend on the numbers.

    Args:
        extractor: feature extractor.
        num_generated: M.
        temperature: temperature of p(z), one number or one for each level of latents; 1 for p(z) itself.
        pixels: `sample` of p(x|z), so that images are samples of the model's own p(x), or `mean` of p(x|z).
        limit: largest number of images of the split; None for all.
        k: number of the neighbour to which the ball around an image reaches.
    """

    name = "prdc"

    def __init__(
        self,
        *,
        extractor: Extractor,
        num_generated: int,
        temperature: float | Sequence[float],
        pixels: str,
        limit: int | None,
        k: int,
    ) -> None:
        super().__init__(
            extractor=extractor, num_generated=num_generated, temperature=temperature, pixels=pixels, limit=limit
        )
        self.k = positive_integer("k", k)

    def compare(self, subject: Subject, real: Tensor, generated: Tensor, findings: Findings) -> None:
        """Add `precision`, `recall`, `density` and `coverage`."""
        count = min(len(real), len(generated))
        if count <= self.k:
            raise NotApplicable(
                f"prdc with k={self.k} needs more than {self.k} generated images and {self.k} of the split, not {count}"
            )
        settings = {"prdc_generated": count, "prdc_images": count, "prdc_k": self.k}
        findings.values |= settings
        findings.recipe |= settings
        real, generated = (features[evenly_spaced(len(features), count)] for features in (real, generated))
        part = evenly_spaced(count, max(TRIAL, self.k + 1))
        subject.estimate_duration("prdc", (count / len(part)) ** 2, lambda: prdc(real[part], generated[part], self.k))
        findings.values |= prdc(real, generated, self.k)._asdict()
