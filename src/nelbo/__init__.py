"""nelbo: an experiment framework for variational autoencoders. The name is the number that it minimises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nelbo.checkpoints.load import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used: the command line answers without torch.

    Raises:
        AttributeError: for any other name.
    """
    if name == "load":
        from nelbo.checkpoints.load import load

        globals()[name] = load
        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
