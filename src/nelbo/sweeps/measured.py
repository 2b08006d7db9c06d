"""The metrics in a run's metrics.json, known before the run, so that a search for an unknown one is refused at once."""

from __future__ import annotations

import difflib

from nelbo.errors import ConfigError
from nelbo.running.scores import ROWS

SCORES = ("objective", *(key for key, *_ in ROWS))
SPLITS = ("val", "test")
NUMBERS = ("epochs", "train_seconds", "images_per_second", "num_parameters")
KNOWN = (*(f"{split}/{key}" for split in SPLITS for key in SCORES if (split, key) != ("test", "objective")), *NUMBERS)


def refuse_unknown(metric: object, *, closed: bool) -> None:
    """Refuse a metric that no run has.

    Some known metrics exist for some models only; that shows after the first run.

    Args:
        metric: a key of metrics.json.
        closed: whether only classes of nelbo can log metrics. A user's own classes may log any metric of a split.

    Raises:
        ConfigError: with the known metrics, if it is not one of them.
    """
    if metric in KNOWN or (not closed and str(metric).startswith(tuple(f"{split}/" for split in SPLITS))):
        return
    near = [known for known in KNOWN if known.endswith(f"/{metric}")] or difflib.get_close_matches(str(metric), KNOWN)
    question = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(
        "hydra.sweeper.metric", metric, f"is not in metrics.json, which has: {', '.join(KNOWN)}{question}"
    )
