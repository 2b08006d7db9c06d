"""Shipped options that several checks go through."""

from __future__ import annotations

from tests.helpers.factors import POSTERIORS, PRIORS, refusal
from tests.helpers.forks import ROOT

CHECKPOINT_GROUPS = (
    "model",
    "likelihood",
    "posterior",
    "prior",
    "objective",
    "optimizer",
    "scheduler",
    "averaging",
    "callbacks",
    "logger",
)
CHECKPOINT_OPTIONS = [
    f"{group}={file.stem}"
    for group in CHECKPOINT_GROUPS
    for file in sorted((ROOT / "conf" / group).glob("*.yaml"))
    if file.stem not in ("columns", "wandb", "mlflow")
]
"""Options whose checkpoints are read back on the digits; tests/finished/test_tables.py reads those of tables.

tests/training/test_services.py has the loggers of services."""

RESUME_OPTIONS = (
    "model=conv_vae",
    "model=linear_vae",
    "model=autoencoder",
    "model=ladder_vae model.width=16",
    "model=top_down_vae posterior=residual_normal model.width=8 prior=standard_normal",
    "model=residual_conv_vae model.encoder.checkpoint_activations=true",
    "posterior=full_normal",
    "posterior=laplace",
    "posterior=flow",
    "prior=mixture",
    "prior=vamp model.prior.components=4",
    "prior=flow",
    "prior=diagonal_normal",
    "likelihood=gaussian_optimal",
    "likelihood=gaussian_per_pixel",
    "likelihood=continuous_bernoulli",
    "likelihood=beta",
    "likelihood=categorical",
    "likelihood=discretized_logistic_mixture",
    "likelihood=gaussian_fixed model.likelihood.sigma={linear:{steps:15,start:1,end:0.3}}",
    "objective.beta={cyclical:{steps:10,cycles:2}} objective.num_samples=3",
    "objective.beta={linear:{steps:15}}",
    "objective=dreg",
    "objective=piwae posterior=flow",
    "objective=stl",
    "objective=free_bits",
    "objective=capacity",
    "objective=beta_tc",
    "objective=dip",
    "objective=info",
    "objective=wae",
    "objective=factor",
    "posterior=categorical prior=categorical model.posterior.temperature={linear:{steps:15,start:1,end:0.5}}",
    "model=vq_vae",
    "posterior=vector_quantized prior=categorical objective=vq_vae",
    "objective.beta={cosine:{steps:15}}",
    "data.protocol=dynamic likelihood=bernoulli",
    "data.protocol=fixed likelihood=bernoulli data.augment.flip=true",
    "scheduler=constant optimizer=adamw",
    "optimizer=muon averaging=ema",
    "scheduler=one_cycle optimizer=nadam",
    "scheduler=plateau scheduler.patience=0 scheduler.threshold=1e6",
    "trainer.gradient_clip_val=1.0",
    "trainer.accumulate_grad_batches=2",
    "guard.skip_above=20",
    "averaging=ema trainer.gradient_clip_val=20 guard.skip_above=1000",
    "lr_warm_up=8 scheduler=plateau scheduler.patience=0 scheduler.threshold=1e6",
    "trainer.precision=bf16-mixed",
    "trainer=ddp trainer.accelerator=cpu trainer.devices=2 data.batch_size=128",
)
"""Options whose runs are interrupted and resumed."""

PAIRS = [(posterior, prior) for posterior in POSTERIORS for prior in PRIORS if not refusal(posterior, prior)]
"""Posteriors and priors that fit each other."""
