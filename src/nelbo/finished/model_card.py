"""The model card of an exported model: what it is, what it was trained on, its results and how to use its files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from nelbo.checkpoints.hub import MODEL
from nelbo.directories.names import EVALUATION, METRICS
from nelbo.files import read_json
from nelbo.finished.run import FinishedRun

FILE = "README.md"

SCORES = {
    "test/nelbo": "negative ELBO, nats per example",
    "test/reconstruction": "reconstruction, nats per example",
    "test/kl": "KL, nats per example",
    "test/bits_per_dim": "bits/dim",
    "test/accuracy": "accuracy of inferred labels",
    "test/nll": "NLL by importance sampling, nats per example",
    "test/fid": "FID",
}
"""Results that a card shows, by their keys."""

USES = {
    "onnx": (
        "import onnxruntime\n\n"
        'encoder, decoder = (onnxruntime.InferenceSession(f"{part}.onnx") for part in ("encoder", "decoder"))\n'
        'codes = encoder.run(None, {"x": x})  # x: float32, (B, ...)\n'
        "names = [each.name for each in decoder.get_inputs()]\n"
        "(x_mean,) = decoder.run(None, dict(zip(names, codes)))"
    ),
    "torch.export": (
        "import torch  # and no nelbo\n\n"
        'encoder, decoder = (torch.export.load(f"{part}.pt2").module() for part in ("encoder", "decoder"))\n'
        "x_mean = decoder(*encoder(x))  # x: float32, (B, ...)"
    ),
    "safetensors": (
        'import nelbo\n\nmodel = nelbo.load("{weights}")\nmodel.generate(5).mean  # (5, ...), in the units of x'
    ),
}
"""Code that uses the files of a format."""


def card(
    run: FinishedRun,
    formats: Sequence[str],
    files: Mapping[str, str],
    notes: Sequence[str] = (),
    weights: str = MODEL,
) -> str:
    """Return the text of a model card, in Markdown, with the header that the Hugging Face Hub reads.

    Args:
        run: the run.
        formats: what was exported.
        files: what was written: names of files, and what each is.
        notes: what was left out.
        weights: what `nelbo.load` takes in the code that uses a .safetensors file.
    """
    uses = [_use(format).replace("{weights}", weights) for format in formats]
    filed = [f"- `{name}`: {text}" for name, text in files.items()]
    return "\n".join([*_sections(run), *filed, *(f"- left out: {note}" for note in notes), *uses]) + "\n"


def _use(format: str) -> str:
    """Return code that uses the files of a format."""
    return f"\n```python\n{USES[format]}\n```"


def _sections(run: FinishedRun) -> Iterator[str]:
    provenance, metrics = run.provenance, read_json(run.folder / METRICS)
    kind = str(run.record["model"].get("_target_", "")).rpartition(".")[2]
    yield "---\nlibrary_name: nelbo\ntags: [variational-autoencoder, generative-model]\n---\n"
    at = f" at {run.setting_name}" if run.setting else ""
    yield f"# {kind} of {provenance.get('data')}{at}\n"
    events = ", ".join("x".join(map(str, event)) for event in run.model.events)
    shape = "x".join(map(str, run.model.shape))
    yield f"A variational autoencoder p(x|z) p(z) with q(z|x): x is {shape}, z is {events} (top level first).\n"
    yield "## Data\n"
    yield from _table(provenance.items())
    yield "\n## Results\n"
    yield from _results(run, metrics)
    yield "\n## Training\n"
    if command := _command(run):
        yield f"    {command}\n"
    environment = metrics.get("environment")
    facts = {
        key: metrics[key] for key in ("seed", "epochs", "steps", "precision", "train_cpu_seconds") if key in metrics
    }
    known = environment if isinstance(environment, Mapping) else {}
    yield from _table({**facts, **{key: known[key] for key in sorted(known)}, "checkpoint_sha256": run.sha256}.items())
    yield "\n## Files\n"


def _results(run: FinishedRun, metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the results of the run on its test set, or say that there are none."""
    evaluation = read_json(run.folder / EVALUATION)
    if evaluation.get("checkpoint_sha256") != run.sha256 or run.setting:
        evaluation = {}
    values = {} if run.setting else {**metrics, **evaluation}
    rows = [(name, _shown(values, key)) for key, name in SCORES.items() if isinstance(values.get(key), float)]
    if not rows:
        yield "None are recorded beside the checkpoint."
        return
    yield from _table(rows)


def _shown(values: Mapping[str, Any], key: str) -> str:
    """Return a result with its standard error and sample sizes, if they are known."""
    text = f"{values[key]:.4g}"
    if isinstance(error := values.get(f"{key}_se"), float):
        text += f" ± {error:.2g}"
    sizes = [f"{values[f'{key}_{what}']:,} {what}" for what in ("samples", "images") if f"{key}_{what}" in values]
    return f"{text} ({', '.join(sizes)})" if sizes else text


def _table(rows: Any) -> Iterator[str]:
    """Yield a table of two columns."""
    yield "| | |\n|---|---|"
    for key, value in rows:
        yield f"| {key} | {value} |"


def _command(run: FinishedRun) -> str:
    """Return the command that trained the run; empty if it is not recorded."""
    file = run.folder / "overrides.yaml"
    if not file.is_file():
        return ""
    overrides = OmegaConf.to_container(OmegaConf.load(file))
    return shlex.join(["nelbo", "train", *map(str, overrides)]) if isinstance(overrides, list) else ""
