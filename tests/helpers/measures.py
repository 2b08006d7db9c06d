"""All measures of conf/metrics with small settings, and a subject that most of them are defined for."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.config.build import build
from nelbo.evaluation.extractors import Extraction, Extractor
from nelbo.evaluation.measure import Findings, JointMeasure, Measure, Subject
from nelbo.models import VAE, Conditioning, Model, SemiSupervisedVAE
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import LIKELIHOODS, NETS, POSTERIORS, PRIORS, make_vae
from tests.helpers.forks import ROOT
from tests.helpers.gallery import digit_images
from tests.helpers.subjects import make_subject

NAMES = sorted(file.stem for file in (ROOT / "conf" / "metrics").glob("*.yaml"))
SMALL = {
    "num_samples": 4,
    "metrics.ais.num_chains": 2,
    "metrics.ais.num_temperatures": 4,
    "metrics.ais.num_leapfrog_steps": 2,
    "metrics.gaps.num_steps": 2,
    "metrics.gaps.gradient_samples": 1,
    "metrics.disentanglement.num_votes": 100,
    "metrics.disentanglement.examples_per_vote": 4,
    **{f"metrics.{name}.num_generated": 40 for name in ("fid", "kid", "prdc", "neighbours")},
    "metrics.kid.subsets": 3,
    "metrics.kid.subset_size": 5,
    "metrics.prdc.k": 2,
}
"""Settings with which every measure is fast."""
PREFIXES = ("nelbo.evaluation.",)


class Pixels(Extractor):
    """An extractor that returns pixels, instead of the features of a classifier that needs training."""

    identity = "pixels"

    def prepare(self, subject: Subject) -> Extraction:
        return Extraction(lambda x: x.flatten(1), {"extractor": "pixels", "extractor_sha256": ""})


def make_measures(*overrides: str) -> dict[str, Measure | JointMeasure]:
    """Return every measure as `scripts/evaluate.py` builds it, with small settings."""
    measures: dict[str, Measure | JointMeasure] = build(copy.deepcopy(_composed(*overrides)), "metrics", PREFIXES)
    for measure in measures.values():
        if hasattr(measure, "extractor"):
            measure.extractor = Pixels()
    return measures


@functools.cache
def _composed(*overrides: str) -> dict[str, Any]:
    """Return the resolved configs of all measures, as plain containers."""
    register_resolvers()
    arguments = ["run=somewhere", f"metrics=[{','.join(NAMES)}]", *(f"{key}={value}" for key, value in SMALL.items())]
    with initialize_config_dir(str(ROOT / "conf"), **hydra_options()):
        plain: Any = OmegaConf.to_container(compose("evaluate", overrides=[*arguments, *overrides]), resolve=True)
    return plain["metrics"]  # type: ignore[no-any-return]


def make_digits(model: Model | None = None, *, test: int = 80, train: int = 120, **rest: Any) -> Subject:
    """Return a subject of the digits with labels and two factors, and a VAE with active units."""
    train_images, train_labels, images, labels = digit_images()
    factors = torch.stack([labels % 2, labels // 5], dim=1)[:test]
    return make_subject(
        active_vae() if model is None else model,
        images[:test],
        train_images[:train],
        labels=labels[:test],
        train_labels=train_labels[:train],
        factors=factors,
        **{"batch_size": 13, "config": {"objective": {"beta": 1.0}}, **rest},
    )


def digits_for(name: str, **rest: Any) -> Subject:
    """Return a subject of the digits for which a measure is defined, by the name of the measure."""
    own = {"levels": lambda: make_hierarchy("ladder", shape=(1, 8, 8)), "accuracy": inferring_vae}
    return make_digits(own[name]() if name in own else None, **rest)


def inferring_vae() -> SemiSupervisedVAE:
    """Return an untrained model of the digits that infers their labels."""
    encoder, decoder = NETS["mlp"]
    label = {"names": ["label"], "kinds": {"label": 10}, "embedding": None, "layers": "modulation", "prior": False}
    return SemiSupervisedVAE(
        shape=(1, 8, 8),
        latent_dim=2,
        encoder=encoder,
        posterior=POSTERIORS["diagonal_normal"],
        prior=PRIORS["standard_normal"],
        decoder=decoder,
        likelihood=LIKELIHOODS["bernoulli"],
        conditioning=partial(Conditioning, **label),
        classifier=encoder,
    ).eval()


def active_vae() -> VAE:
    """Return an untrained VAE of the digits whose posterior means vary between images."""
    model = make_vae(shape=(1, 8, 8))
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(3)
    return model


def run_measure(measure: Measure | JointMeasure, subject: Subject) -> Findings:
    """Return the findings of a measure; a joint measure is given two subjects that differ in their seed."""
    if isinstance(measure, Measure):
        return measure(subject)
    return measure([subject, replace(subject, seed=1)])[0]


def distinct(positions: list[Tensor]) -> int:
    """Return the number of distinct positions."""
    return len(torch.cat(positions).unique())
