"""How far a model's images are from the data's, in a feature space.

Shapes: N images, M generated images, F features, C H W image.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from nelbo.errors import at_most, choice, number, positive_integer
from nelbo.evaluation.extractors import Extraction, Extractor
from nelbo.evaluation.feature_distances import frechet_distance, kernel_distance
from nelbo.evaluation.generated import PIXELS, generate
from nelbo.evaluation.measure import TRIAL, Findings, Measure, NoMeaning, Subject, spread
from nelbo.evaluation.prdc import prdc

FEW_FEATURES = 256
"""Of a trial of FID, whose time grows with the third power of the features."""


class SampleQuality(Measure):
    """A comparison of features of generated images with those of the split that is evaluated.

    Its values come with how they were found, `NAME_extractor`, `NAME_generated`, ... Numbers of another extractor, of
    another number of images, or of means where these are of samples, are not comparable.

    Args:
        extractor: of features.
        num_generated: M.
        temperature: of p(z); 1 is the model itself.
        pixels: `sample` of p(x|z), which makes the images draws of the model's own p(x), or its `mean`.
        limit: no more than so many images of the split; None for all.
    """

    name: ClassVar[str]

    def __init__(
        self, *, extractor: Extractor, num_generated: int, temperature: float, pixels: str, limit: int | None
    ) -> None:
        self.extractor = extractor
        self.num_generated = positive_integer("num_generated", num_generated)
        self.temperature = number("temperature", temperature, positive=True)
        self.pixels = choice("pixels", pixels, PIXELS)
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if the extractor has no meaning for the data, or there are too few images.
        """
        extraction = self.extraction(subject)
        real, generated = self.features(subject, subject.split, self.limit), self.generated_features(subject)
        if min(len(real), len(generated)) < 2:
            raise NoMeaning(f"{self.name} needs two images or more, both generated and of the split")
        findings = Findings(warnings=list(extraction.warnings))
        recipe = {
            **extraction.recipe,
            "generated": len(generated),
            "images": len(real),
            "pixels": self.pixels,
            "temperature": self.temperature,
        }
        findings.values = {f"{self.name}_{key}": value for key, value in recipe.items()}
        findings.recipe = {key: value for key, value in findings.values.items() if not key.endswith("_accuracy")}
        self.compare(subject, real, generated, findings)
        return findings

    @abstractmethod
    def compare(self, subject: Subject, real: Tensor, generated: Tensor, findings: Findings) -> None:
        """Add values that compare features (N, F) and (M, F) to `findings`."""

    def extraction(self, subject: Subject) -> Extraction:
        """The function from images to features."""
        key = ("extraction", self.extractor.identity)
        extraction: Extraction = subject.once(key, lambda: self.extractor.prepare(subject))
        return extraction

    def features(self, subject: Subject, split: str, limit: int | None) -> Tensor:
        """Of a split's images, (N, F)."""
        function = self.extraction(subject).function

        def compute() -> Tensor:
            found = subject.map(f"features of {split}", lambda x: {"": function(x)}, split=split, limit=limit)
            return found[""]

        features: Tensor = subject.once(("images", self.extractor.identity, split, limit), compute)
        return features

    def generated_features(self, subject: Subject) -> Tensor:
        """Of images that the model makes, (M, F)."""
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

    It is biased: finite sets of one distribution have a distance too, larger the fewer images either of them has.
    `fid_reference` says how large: between the split's images and as many training images as were generated, those of
    a perfect model. With `extractor=classifier`, which was trained on the latter, that is a little more than for images
    new to it.
    """

    name = "fid"

    def compare(self, subject: Subject, real: Tensor, generated: Tensor, findings: Findings) -> None:
        """Add `fid` and `fid_reference`."""
        few = [features[:, :FEW_FEATURES] for features in (real, generated)]
        subject.foresee("fid, covariances", 2 * (real.shape[1] / FEW_FEATURES) ** 3, lambda: frechet_distance(*few))
        findings.values["fid"] = frechet_distance(real, generated)
        if (fewest := min(len(real), len(generated))) <= real.shape[1]:
            findings.warnings.append(
                f"fid: {fewest} images are too few for the covariance of {real.shape[1]} features; believe kid instead"
            )
        if subject.split == "train":
            findings.warnings.append("fid_reference was left out: it compares with the training images themselves")
        else:
            reference = self.features(subject, "train", len(generated))
            findings.values |= {
                "fid_reference": frechet_distance(real, reference),
                "fid_reference_images": len(reference),
            }
            if len(reference) < len(generated):
                findings.warnings.append(
                    f"fid_reference is of {len(reference)} training images, all there are, and fid of {len(generated)} "
                    f"generated ones; fewer images have a larger distance, so a perfect model's fid would be below the "
                    f"reference: metrics.fid.num_generated={len(reference)} makes the two comparable"
                )


class KID(SampleQuality):
    """The squared maximum mean discrepancy of features under a cubic kernel (Binkowski et al. 2018), unbiased.

    The mean over random subsets, and `kid_subset_std`, the standard deviation between them: not an error of the mean,
    for the subsets share images. Two equal distributions have 0 in expectation, so it may come out below.

    Args:
        extractor: of features.
        num_generated: M.
        temperature: of p(z); 1 is the model itself.
        pixels: `sample` of p(x|z), which makes the images draws of the model's own p(x), or its `mean`.
        limit: no more than so many images of the split; None for all.
        subsets: how many.
        subset_size: images in each, but at most half of them, so that subsets differ.
    """

    name = "kid"

    def __init__(
        self,
        *,
        extractor: Extractor,
        num_generated: int,
        temperature: float,
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
            raise NoMeaning(
                "kid needs subsets of two images or more, and so four images, both generated and of the split"
            )
        with subject.random_state("kid, trial", 0):
            subject.foresee("kid", self.subsets, lambda: kernel_distance(real, generated, 1, size))
        with subject.random_state("kid", 0):
            kid, deviation = kernel_distance(real, generated, self.subsets, size)
        sizes = {"kid_subsets": self.subsets, "kid_subset_size": size}
        findings.values |= {"kid": kid, "kid_subset_std": deviation, **sizes}
        findings.recipe |= sizes


class PRDC(SampleQuality):
    """Precision and recall, density and coverage, by nearest neighbours (see `prdc`): fidelity apart from diversity.

    As many images of each kind are compared, for recall and coverage depend on how many there are.

    Args:
        extractor: of features.
        num_generated: M.
        temperature: of p(z); 1 is the model itself.
        pixels: `sample` of p(x|z), which makes the images draws of the model's own p(x), or its `mean`.
        limit: no more than so many images of the split; None for all.
        k: to which neighbour the ball around an image reaches.
    """

    name = "prdc"

    def __init__(
        self,
        *,
        extractor: Extractor,
        num_generated: int,
        temperature: float,
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
            raise NoMeaning(f"prdc with k={self.k} needs more than {count} images, both generated and of the split")
        settings = {"prdc_generated": count, "prdc_images": count, "prdc_k": self.k}
        findings.values |= settings
        findings.recipe |= settings
        real, generated = (features[spread(len(features), count)] for features in (real, generated))
        part = spread(count, max(TRIAL, self.k + 1))
        subject.foresee("prdc", (count / len(part)) ** 2, lambda: prdc(real[part], generated[part], self.k))
        findings.values |= prdc(real, generated, self.k)._asdict()
