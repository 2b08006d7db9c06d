"""Names that exist, for names that were typed and do not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

MOST = 4
"""Suggestions in one line."""

LEAST_ALIKE = 0.76
"""Of `difflib.SequenceMatcher.ratio`, for two spellings of one name."""

SHORTEST_PART = 3
"""Letters that a part of a longer name has at least; shorter ones are in too many."""

TORCH_OPTIMIZERS = ("SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam")

OTHER_OPTIONS: dict[str, dict[str, Sequence[str]]] = {
    "data": {
        "fmnist": ["fashion_mnist"],
        "bmnist": ["binarized_mnist"],
        "binarymnist": ["binarized_mnist"],
        "staticmnist": ["data=binarized_mnist data.protocol=static"],
        "folder": ["image_folder"],
        "images": ["image_folder"],
        "imagefolder": ["image_folder"],
        "celeba": ["data=image_folder data.root=DIRECTORY"],
        "numpy": ["arrays"],
        "npy": ["arrays"],
        "npz": ["arrays"],
        "hf": ["huggingface"],
        "hub": ["huggingface"],
    },
    "model": {
        "ae": ["autoencoder"],
        "cnn": ["conv_vae"],
        "fc": ["mlp_vae"],
        "dense": ["mlp_vae"],
        "ppca": ["linear_vae"],
        "betavae": ["objective.beta=4"],
        "factorvae": ["objective=factor"],
        "tcvae": ["objective=beta_tc"],
        "betatcvae": ["objective=beta_tc"],
        "dipvae": ["objective=dip"],
        "infovae": ["objective=info"],
        "wae": ["objective=wae"],
        "iwae": ["objective=iwae objective.num_samples=50"],
        "vampvae": ["prior=vamp"],
    },
    "posterior": {
        "gaussian": ["diagonal_normal", "full_normal"],
        "meanfield": ["diagonal_normal"],
        "iaf": ["flow"],
        "maf": ["flow"],
        "gumbel": ["categorical"],
        "gumbelsoftmax": ["categorical"],
        "discrete": ["categorical"],
        "vq": ["vector_quantized"],
        "delta": ["deterministic"],
        "none": ["deterministic"],
    },
    "prior": {
        "gaussian": ["standard_normal", "diagonal_normal"],
        "gmm": ["mixture"],
        "mog": ["mixture"],
        "vampprior": ["vamp"],
        "realnvp": ["flow"],
    },
    "likelihood": {
        "bce": ["bernoulli"],
        "binarycrossentropy": ["bernoulli"],
        "mse": ["gaussian_fixed", "gaussian"],
        "l2": ["gaussian_fixed", "gaussian"],
        "mae": ["laplace"],
        "l1": ["laplace"],
        "normal": ["gaussian"],
        "softmax": ["categorical"],
        "crossentropy": ["categorical"],
    },
    "objective": {
        "vae": ["elbo"],
        "beta": ["objective.beta=4", "objective=beta_tc"],
        "betavae": ["objective.beta=4"],
        "tcvae": ["beta_tc"],
        "btcvae": ["beta_tc"],
        "betatcvae": ["beta_tc"],
        "tc": ["beta_tc", "factor"],
        "mmd": ["wae", "info"],
        "mse": ["reconstruction"],
    },
    "optimizer": {name.lower(): [f"optimizer._target_=torch.optim.{name}"] for name in TORCH_OPTIMIZERS},
    "scheduler": {"none": ["constant"], "off": ["constant"]},
    "trainer": {"cuda": ["gpu"], "multigpu": ["ddp"], "fast": ["smoke"], "quick": ["smoke"], "default": ["auto"]},
    "logger": {"tb": ["tensorboard"], "off": ["none"]},
    "callbacks": {"off": ["none"]},
    "debug": {"off": ["none"]},
    "metrics": {
        "iwae": ["nll"],
        "ll": ["nll"],
        "loglikelihood": ["nll"],
        "kl": ["elbo"],
        "rate": ["elbo"],
        "distortion": ["elbo"],
        "bpd": ["elbo"],
        "mig": ["disentanglement"],
        "dci": ["disentanglement"],
        "sap": ["disentanglement"],
        "au": ["active_units"],
        "tc": ["total_correlation"],
        "mi": ["information"],
        "precision": ["prdc"],
        "recall": ["prdc"],
        "density": ["prdc"],
        "coverage": ["prdc"],
        "accuracy": ["probe", "knn"],
    },
    "picture": {
        "generate": ["samples"],
        "generated": ["samples"],
        "latent": ["posterior", "traversal"],
        "umap": ["posterior"],
        "tsne": ["posterior"],
        "codes": ["posterior"],
    },
}
"""What other programs and papers call an option of a group, squeezed, and what is typed here instead."""

OTHER_KEYS: dict[str, Sequence[str]] = {
    **dict.fromkeys(("learningrate", "lrate"), ["optimizer.lr"]),
    **dict.fromkeys(("bs", "batch", "minibatch"), ["data.batch_size", "batch_size"]),
    **dict.fromkeys(("klweight", "kldweight", "klbeta", "betakl", "klcoeff"), ["objective.beta"]),
    **dict.fromkeys(("zdim", "dimz", "nz", "latent", "latents", "latentdims", "latentsize"), ["model.latent_dim"]),
    **dict.fromkeys(("nlatent", "nlatents", "numlatent", "numlatents", "codesize", "ndim"), ["model.latent_dim"]),
    **dict.fromkeys(("epoch", "epochs", "nepochs", "numepochs", "nepoch", "maxepoch"), ["trainer.max_epochs"]),
    **dict.fromkeys(("steps", "nsteps", "numsteps", "iterations", "maxiter"), ["trainer.max_steps"]),
    **dict.fromkeys(("gpus", "ngpus", "numgpus"), ["trainer.devices"]),
    **dict.fromkeys(("gpu", "cuda"), ["trainer=gpu", "device"]),
    "device": ["trainer.accelerator"],
    **dict.fromkeys(("workers", "nworkers", "numworker"), ["data.num_workers"]),
    **dict.fromkeys(("amp", "fp16", "bf16", "mixedprecision"), ["trainer.precision"]),
    **dict.fromkeys(("clip", "gradclip", "clipgrad", "gradientclip"), ["trainer.gradient_clip_val"]),
    **dict.fromkeys(("valsize", "valsplit", "validationsplit", "valfraction"), ["data.validation_size"]),
    **dict.fromkeys(("dataset", "datasets"), ["data"]),
    **dict.fromkeys(("loss", "criterion"), ["objective"]),
    **dict.fromkeys(("net", "network", "architecture", "arch", "encoder", "decoder"), ["model"]),
    **dict.fromkeys(("optim", "opt"), ["optimizer"]),
    **dict.fromkeys(("hiddendim", "hiddendims", "hiddensize", "hiddenunits", "units"), ["model.encoder.hidden"]),
    **dict.fromkeys(
        ("out", "output", "outdir", "outputdir", "rundir", "dir", "savedir", "logdir", "name", "expname", "runname"),
        ["out", "hydra.run.dir"],
    ),
    **dict.fromkeys(
        ("ckptpath", "ckpt", "checkpoint", "checkpointpath", "resumefrom", "resumefromcheckpoint", "load", "weights"),
        ["run", "resume or init_from"],
    ),
    **dict.fromkeys(("wd", "l2", "weightdecay"), ["optimizer.weight_decay"]),
    "root": ["data.path"],
    **dict.fromkeys(("path", "modelpath", "rundirectory", "runs"), ["run", "data.path", "data.root"]),
    **dict.fromkeys(("pretrained", "initialweights", "finetune"), ["init_from or resume"]),
    **dict.fromkeys(("k", "nsamples", "importancesamples", "numimportancesamples"), ["num_samples"]),
    **dict.fromkeys(("n", "num", "count"), ["rows", "limit"]),
    **dict.fromkeys(("images", "numimages", "nimages", "maximages"), ["limit"]),
    **dict.fromkeys(("metric", "measure", "measures"), ["metrics"]),
    **dict.fromkeys(("temp", "tau"), ["temperature"]),
}
"""What other programs call a key, squeezed, and where it may stand here: the first is meant that a script has."""


def squeezed(name: str) -> str:
    """A name without what spellings differ in: case, `_`, `-`, blanks and dots."""
    return re.sub(r"[\W_]+", "", name).casefold()


def meant(typed: str, known: Iterable[str], most: int = MOST) -> list[str]:
    """Those of `known` that somebody may have meant who typed a name that is not among them, the likeliest first.

    The same name in another spelling; else names of which it is a part, or which are a part of it; else similar ones.
    """
    word = squeezed(typed)
    by_name = {name: squeezed(name) for name in known}
    if same := [name for name, other in by_name.items() if other == word]:
        return same[:most]
    if len(word) >= SHORTEST_PART:
        longer = [name for name, other in by_name.items() if word in other]
        if longer:
            return sorted(longer, key=lambda name: (not by_name[name].startswith(word), name))[:most]
        shorter = [name for name, other in by_name.items() if len(other) >= SHORTEST_PART and other in word]
        if shorter:
            return sorted(shorter, key=lambda name: -len(by_name[name]))[:1]
    return alike(typed, by_name)[: min(2, most)]


def alike(typed: str, known: Iterable[str], least: float = LEAST_ALIKE) -> list[str]:
    """Those of `known` that are spelt like a name, the most similar first; `least` is 1 for the same spelling."""
    word = squeezed(typed)
    likeness = {name: difflib.SequenceMatcher(None, word, squeezed(name)).ratio() for name in known}
    return sorted((name for name in likeness if likeness[name] >= least), key=lambda name: -likeness[name])


def options_meant(group: str, typed: str, options: Sequence[str]) -> list[str]:
    """Options of a group, or whole overrides, that somebody may have meant who typed `GROUP=TYPED`."""
    others = OTHER_OPTIONS.get(group.partition("@")[0], {}).get(squeezed(typed), ())
    return [other for other in others if "=" in other or other in options] or meant(typed, options)


def question(names: Sequence[str]) -> str:
    """`did you mean a, b or c? `, with the blank behind it; empty for no names."""
    if not names:
        return ""
    *others, last = names
    return f"did you mean {', '.join(others)} or {last}? " if others else f"did you mean {last}? "
