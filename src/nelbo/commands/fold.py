"""`nelbo fold`: a model that was trained for many settings, at one of them, as a checkpoint of an ordinary VAE."""

from __future__ import annotations

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.errors import NelboError, path
from nelbo.finished.arguments import AT, numbers, packages


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "fold",
        "run=PATH [at.beta=B] [at.latent_dim=K] out=FILE [allow_targets=[PACKAGE.,...]]",
        "Write a model that was trained with rates=many or nesting, at one setting, as a checkpoint of an ordinary\n"
        "VAE: the same distributions, with neither gates nor latents beyond K.",
        "The file can be evaluated, drawn and loaded like a run's checkpoint: run=FILE, nelbo.load(FILE).",
    )
    made.key("run", "PATH", "a run's directory (its best.ckpt) or a checkpoint", required=True)
    made.key("at.beta", "B", "the beta, of a model with rates=many, which needs it")
    made.key("at.latent_dim", "K", "the number of latents, of a model with nesting, which needs it")
    made.key("out", "FILE", "the file to write, such as outputs/.../folded.ckpt", required=True)
    made.key("allow_targets", "[PACKAGE.,...]", "packages of your own that the model is made of", default="")
    return made


def main() -> None:
    """Read the command line and fold; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values, _ = parser().read(arguments)
        typed = {key.removeprefix(AT): value for key, value in vars(values).items() if key.startswith(AT)}
        setting = numbers(AT, {key: value for key, value in typed.items() if value is not None})
        out = path("out", values.out)
        from nelbo.finished.fold import write_folded  # seconds to import, which --help does without
        from nelbo.finished.run import FinishedRun

        run = FinishedRun.open(values.run, packages(values.allow_targets), key="run", setting=setting)
        folded = write_folded(run, out)
    except NelboError as error:
        fail(error)
    before, after = (sum(part.numel() for part in model.parameters()) for model in (run.model, folded))
    print(f"{out}: {run.setting_name}, {after:,} parameters; with all settings {before:,}")


if __name__ == "__main__":
    main()
