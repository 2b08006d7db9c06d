"""What a run's metrics.json will have, so that a search for something else is refused before its first trial."""

from __future__ import annotations

import difflib

from nelbo.errors import ConfigError
from nelbo.running.scores import ROWS

SCORES = ("objective", *(key for key, *_ in ROWS))
SPLITS = ("val", "test")
NUMBERS = ("epochs", "train_seconds", "images_per_second", "num_parameters")
KNOWN = (*(f"{split}/{key}" for split in SPLITS for key in SCORES if (split, key) != ("test", "objective")), *NUMBERS)


def refuse_unknown(metric: object, *, closed: bool) -> None:
    """Refuse a metric that no run has. Whether a run has one of the known ones depends on its model.

    Args:
        metric: a key of metrics.json.
        closed: whether no classes but ours can measure: others log what they like, for a split.

    Raises:
        ConfigError: with what there is.
    """
    if metric in KNOWN or (not closed and str(metric).startswith(tuple(f"{split}/" for split in SPLITS))):
        return
    near = [known for known in KNOWN if known.endswith(f"/{metric}")] or difflib.get_close_matches(str(metric), KNOWN)
    question = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(
        "hydra.sweeper.metric", metric, f"is not in metrics.json, which has: {', '.join(KNOWN)}{question}"
    )
