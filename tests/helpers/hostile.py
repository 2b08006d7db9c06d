"""Attacks through the content of a config or a checkpoint; each would create a marker file if it succeeded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CYRILLIC_O = "\u043e"

LOOKS_LIKE_OURS = (
    f"nelb{CYRILLIC_O}.nets.MLP",
    "nelbo\u2024nets.MLP",
    "nelbo.nets.\uff2d\uff2c\uff30",
    "nelbo.nets.MLP\u200b",
    "nelbo.nets.MLP\n",
    " nelbo.nets.MLP",
    "nelbo..nets.MLP",
    ".nelbo.nets.MLP",
    "nelbo.nets.MLP.",
    "nelbo.nets.../os.system",
    "nelbo.nets.__init__.os.system",
    "nelbo.nets.__builtins__.eval",
    "nelbo.nets.__loader__.load_module",
    "nelbo.nets.MLP.__init__.__globals__",
    "nelbo.nets.MLP.__class__",
    "nelbo.nets.MLP.forward",
    "nelbo.nets.MLP()",
    "nelbo.nets.MLP; import os",
    "NELBO.nets.MLP",
    "nelbo.netsx.MLP",
    "nelbo",
    "nelbo.",
    "",
)
"""Names that resemble those of classes of nelbo; none of them may be resolved."""

NOT_NAMES: tuple[Any, ...] = (None, True, 7, 1.5, ["nelbo.nets.MLP"], {"_target_": "nelbo.nets.MLP"})


def payloads(marker: Path, script: Path, pickled: Path) -> list[dict[str, Any]]:
    """Return mappings with a `_target_` and arguments with which its call would create `marker`.

    Args:
        marker: the file that must never appear.
        script: a Python file that creates it.
        pickled: a file that creates it when torch or numpy unpickles it.
    """
    calls = hydra_calls(marker, script, pickled) | code_calls(marker, script, pickled)
    calls |= file_calls(marker, script) | package_calls(marker, script, pickled)
    named = [{"_target_": target, **arguments} for target, arguments in calls.items()]
    return named + [{"_target_": target} for target in (*LOOKS_LIKE_OURS, *NOT_NAMES)]


def hydra_calls(marker: Path, script: Path, pickled: Path) -> dict[str, dict[str, Any]]:
    """Return the five calls that Hydra's own instantiation would allow, by target."""
    m = str(marker)
    return {
        "torch.load": {"f": str(pickled), "weights_only": False},
        "numpy.load": {"file": str(pickled), "allow_pickle": True},
        "pathlib.Path.write_text": {"self": m, "data": "x"},
        "shutil.copyfile": {"src": str(script), "dst": m},
        "builtins.open": {"file": m, "mode": "w"},
    }


def code_calls(marker: Path, script: Path, pickled: Path) -> dict[str, dict[str, Any]]:
    """Return calls that run commands or code, by target."""
    m = str(marker)
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": {"command": touch},
        "posix.system": {"command": touch},
        "os.popen": {"cmd": touch},
        "os.execvp": {"file": "touch", "args": ["touch", m]},
        "os.posix_spawn": {"path": "/bin/touch", "argv": ["touch", m], "env": {}},
        "subprocess.run": {"args": ["touch", m]},
        "subprocess.Popen": {"args": ["touch", m]},
        "subprocess.check_output": {"args": ["touch", m]},
        "subprocess.getoutput": {"cmd": touch},
        "builtins.eval": {"source": code},
        "builtins.exec": {"source": code},
        "builtins.__import__": {"name": "antigravity"},
        "runpy.run_path": {"path_name": str(script)},
        "importlib.import_module": {"name": "antigravity"},
        "timeit.timeit": {"stmt": code, "number": 1},
        "cProfile.run": {"statement": code},
        "pty.spawn": {"argv": ["touch", m]},
        "pickle.load": {"file": str(pickled)},
        "torch.utils.cpp_extension.load_inline": {"name": "x", "cpp_sources": code},
        "torch.hub.load": {"repo_or_dir": str(script.parent), "model": "x", "source": "local"},
        "torch.jit.load": {"f": str(pickled)},
        "hydra.utils.instantiate": {"config": {"argument": touch}},
        "hydra.utils.call": {"config": {"argument": touch}},
        "ctypes.CDLL": {"name": str(script)},
        "multiprocessing.Process": {"args": [m]},
    }


def file_calls(marker: Path, script: Path) -> dict[str, dict[str, Any]]:
    """Return calls that write files, by target."""
    m = str(marker)
    return {
        "io.open": {"file": m, "mode": "w"},
        "codecs.open": {"filename": m, "mode": "w"},
        "gzip.open": {"filename": m, "mode": "w"},
        "os.open": {"path": m, "flags": 65},
        "os.mkdir": {"path": m},
        "os.makedirs": {"name": m},
        "os.symlink": {"src": str(script), "dst": m},
        "os.link": {"src": str(script), "dst": m},
        "os.rename": {"src": str(script), "dst": m},
        "shutil.copy": {"src": str(script), "dst": m},
        "shutil.move": {"src": str(script), "dst": m},
        "shutil.copytree": {"src": str(script.parent), "dst": m},
        "shutil.make_archive": {"base_name": m, "format": "tar"},
        "pathlib.Path.touch": {"self": m},
        "pathlib.Path.mkdir": {"self": m},
        "logging.FileHandler": {"filename": m},
        "sqlite3.connect": {"database": m},
        "zipfile.ZipFile": {"file": m, "mode": "w"},
        "tarfile.open": {"name": m, "mode": "w"},
        "urllib.request.urlretrieve": {"url": script.as_uri(), "filename": m},
        "torch.save": {"obj": 1, "f": m},
        "numpy.save": {"file": m, "arr": 1},
        "numpy.memmap": {"filename": m, "mode": "w+", "shape": [1]},
    }


def package_calls(marker: Path, script: Path, pickled: Path) -> dict[str, dict[str, Any]]:
    """Return calls through packages that targets may be in, and through modules that these import, by target."""
    m = str(marker)
    touch = f"touch {marker}"
    return {
        "nelbo.config.build.build": {"spec": {"argument": touch}},
        "nelbo.config.build.importlib.import_module": {"name": "antigravity"},
        "nelbo.data.fetch.subprocess.run": {"args": ["touch", m]},
        "nelbo.data.fetch.os": {},
        "nelbo.data.fetch.fetch": {},
        "nelbo.data.origins.shutil.which": {"cmd": "touch"},
        "nelbo.data.origins.copy_unpacked": {"source": str(script), "target": m, "limit": 9999, "packed": False},
        "nelbo.data.origins.Https": {"url": script.as_uri()},
        "nelbo.data.store.Store": {"folder": m},
        "nelbo.training.module.torch.load": {"f": str(pickled), "weights_only": False},
        "nelbo.training.module.pl.Trainer": {},
        "nelbo.heads.gaussian.torch.save": {"obj": 1, "f": m},
        "pytorch_lightning.Trainer.save_checkpoint": {"self": None, "filepath": m},
        "pytorch_lightning.TrainerX": {},
        "pytorch_lightning.core.saving._load_state": {},
        "pytorch_lightning.loggers.csv_logs.os.makedirs": {"name": m},
        "pytorch_lightning.callbacks.model_checkpoint.shutil.copyfile": {"src": str(script), "dst": m},
        "pytorch_lightning.profilers.profiler.Path": {},
        "torch.optim.optimizer.torch.save": {"obj": 1, "f": m},
        "torch.optim.swa_utils.update_bn": {},
        "torch.optim.lr_scheduler.Tensor": {},
        "torchmetrics.text.ROUGEScore": {},
        "torchmetrics.image.FrechetInceptionDistance": {},
        "torchmetrics.classification.accuracy.Metric": {},
        "zuko.flows.core.torch.save": {"obj": 1, "f": m},
        "zuko.utils.bisection": {},
        "optuna.pruners.create_study": {"storage": f"sqlite:///{m}"},
    }


def more_than_targets(marker: Path) -> list[Any]:
    """Return trees that are not configs: with reserved keys, other types, or endless nesting."""
    mlp = {"_target_": "nelbo.nets.MLP", "_partial_": True}
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    endless: list[Any] = [1]
    for _ in range(30):
        endless = [endless] * 9
    itself: dict[str, Any] = {}
    itself["again"] = itself

    class Mapping(dict[str, Any]):
        """A subclass of dict, which could return different items at each access."""

    return [
        {**mlp, "_args_": [str(marker)]},
        {**mlp, "_recursive_": True},
        {**mlp, "_convert_": "all"},
        {**mlp, "_mode_": "x"},
        {**mlp, "__class__": "x"},
        {**mlp, 7: "x"},
        {**mlp, ("a",): "x"},
        {**mlp, "a\nerror: b": "x"},
        {**mlp, "_partial_": "yes"},
        {"_partial_": True},
        Mapping(mlp),
        {"net": Mapping(mlp)},
        {"net": object()},
        {"net": {1, 2}},
        {"net": b"bytes"},
        deep,
        endless,
        itself,
    ]
