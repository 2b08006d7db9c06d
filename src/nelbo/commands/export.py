"""`nelbo export`: a finished model as ONNX or torch.export programs, or as a .safetensors file, with a model card."""

from __future__ import annotations

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.errors import NelboError, path
from nelbo.finished.arguments import AT, numbers, packages

EPILOG = """Formats, of which several may be given, separated by commas:

  onnx          encoder.onnx (x to the modes of q(z|x)), decoder.onnx (z to the mean of p(x|z)) and, where p(z) is
                made of normal noise, sampler.onnx (noise to the mean of p(x|z)); needs onnx, onnxruntime, onnxscript
  torch.export  the same as encoder.pt2, decoder.pt2, sampler.pt2
  safetensors   model.safetensors: the weights and what nelbo.load and the commands need to build the model

Every program is run and compared with the model before the command ends."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "export",
        "run=PATH format=onnx|torch.export|safetensors out=FOLDER [at.NAME=VALUE]",
        "Write a trained model in formats that other programs read, with a model card (README.md).",
        EPILOG,
    )
    made.key("run", "PATH", "a run's directory (its best.ckpt) or a checkpoint", required=True)
    made.key("format", "NAME", "onnx (default), torch.export, safetensors", default="onnx")
    made.key("out", "FOLDER", "a new folder", required=True)
    made.key("allow_targets", "[PACKAGE.,...]", "packages of your own that the model is made of", default="")
    return made


def main() -> None:
    """Read the command line and export; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values, settings = parser().read(arguments, others=AT)
        setting = numbers(AT, {key.removeprefix(AT): value for key, value in settings.items()})
        out = path("out", values.out)
        from nelbo.finished.export import export  # seconds to import, which --help does without
        from nelbo.finished.run import FinishedRun

        run = FinishedRun.open(values.run, packages(values.allow_targets), key="run", setting=setting)
        for line in export(run, values.format.split(","), out):
            print(line)
    except NelboError as error:
        fail(error)


if __name__ == "__main__":
    main()
