"""Stand-ins for sbatch, srun, sacct and scancel: they keep every script, and run its array on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

SBATCH = """
import os, re, subprocess, sys, time
from pathlib import Path
home = Path(__file__).parent
script = Path(sys.argv[-1])
if sys.argv[1] == "run":  # what the cluster does once sbatch has answered
    time.sleep(2)
    number = sys.argv[2]
    array = re.search(r"--array=(\\d+)-(\\d+)", script.read_text())
    for task in range(int(array[1]), int(array[2]) + 1):
        name = f"{number}_{task}"
        own = {"SLURM_JOB_ID": name, "SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task),
               "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURM_PROCID": "0", "SLURM_NODEID": "0",
               "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "localhost"}
        ended = subprocess.run(["bash", str(script)], env={**os.environ, **own})
        (home / f"job-{name}").write_text("COMPLETED" if ended.returncode == 0 else "FAILED")
    sys.exit()
number = str(100 + len(list(home.glob("script-*"))))
kept = home / f"script-{number}"
kept.write_text(script.read_text())
quiet = {"stdout": subprocess.DEVNULL, "stderr": (home / "errors").open("a"), "start_new_session": True}
subprocess.Popen([sys.executable, __file__, "run", number, str(kept)], **quiet)
print(f"Submitted batch job {number}")
"""

SRUN = """
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    option = words.pop(0)
    if option in ("--output", "--error"):
        words.pop(0)
job = os.environ["SLURM_JOB_ID"]
words = [word.replace("%j", job) for word in words]
os.execvp(words[0], words)
"""

SACCT = """
from pathlib import Path
print("JobID|State|NodeList")
for state in Path(__file__).parent.glob("job-*"):
    print(f"{state.name[4:]}|{state.read_text() or 'RUNNING'}|localhost")
"""


def install(folder: Path) -> Path:
    """Put the commands into a folder, for the PATH."""
    folder.mkdir()
    for name, code in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scancel", "")):
        command = folder / name
        command.write_text(f"#!{sys.executable}\n{code}")
        command.chmod(0o755)
    return folder
