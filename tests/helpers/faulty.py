"""train.py, in which some jobs fail while the file $FAULTS exists.

A job with 2 latents raises an exception (with several Slurm tasks, only the first), one with 3 exits, one with 4 is
killed.
"""

import os
import signal
import sys
from pathlib import Path

from omegaconf import DictConfig

from nelbo.commands.hydra_command import hydra_command


def main(config: DictConfig) -> float:
    """Run what the config says, or do not."""
    from nelbo.running.run import run

    fault = config.model.latent_dim if Path(os.environ["FAULTS"]).exists() else 0
    if fault == 2 and os.environ.get("SLURM_PROCID", "0") == "0":
        raise RuntimeError("out of luck")
    if fault == 3:
        sys.exit(7)
    if fault == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(config)


if __name__ == "__main__":
    hydra_command("config", main)()
