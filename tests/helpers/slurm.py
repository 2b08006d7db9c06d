"""Stand-ins for sbatch, srun, sacct and scancel, which store every script and run its job array on this machine.

A job has as many tasks as its script requests, each a process; `--kill-on-bad-exit` ends all once one has failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

SBATCH = """
import os, re, socket, subprocess, sys, time
from pathlib import Path
home = Path(__file__).parent
script = Path(sys.argv[-1])
if sys.argv[1] == "run":  # what the cluster does after sbatch has returned
    time.sleep(2)
    number = sys.argv[2]
    array = re.search(r"--array=(\\d+)-(\\d+)", script.read_text())
    per_node = re.search(r"--ntasks-per-node=(\\d+)", script.read_text())
    tasks = per_node[1] if per_node else "1"
    for task in range(int(array[1]), int(array[2]) + 1) if array else [None]:
        name = number if task is None else f"{number}_{task}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        own = {} if task is None else {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}
        own |= {"SLURM_JOB_ID": name.replace("_", ""), "SLURM_JOB_NAME": "train",
                "SLURM_NTASKS": tasks, "SLURM_NTASKS_PER_NODE": tasks,
                "SLURM_LOCALID": "0", "SLURM_PROCID": "0", "SLURM_NODEID": "0",
                "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "localhost", "MASTER_PORT": port}
        ended = subprocess.run(["bash", str(script)], env={**os.environ, **own})
        (home / f"job-{name}").write_text("COMPLETED" if ended.returncode == 0 else "FAILED")
    sys.exit()
number = str(100 + len(list(home.glob("script-*"))))
stored = home / f"script-{number}"
stored.write_text(script.read_text())
quiet = {"stdout": subprocess.DEVNULL, "stderr": (home / "errors").open("a"), "start_new_session": True}
subprocess.Popen([sys.executable, __file__, "run", number, str(stored)], **quiet)
print(f"Submitted batch job {number}")
"""

SRUN = """
import os, subprocess, sys, time
arguments, options = sys.argv[1:], {}
while arguments[0].startswith("-"):
    name, _, value = arguments.pop(0).partition("=")
    options[name] = value or (arguments.pop(0) if name in ("--output", "--error") else "")
job = os.environ["SLURM_JOB_ID"]
if "SLURM_ARRAY_JOB_ID" in os.environ:
    job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
def streams(task):
    for name in ("--output", "--error"):
        file = options[name].replace("%A_%a", job).replace("%j", job).replace("%t", str(task))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        yield open(file, "a")

count, tasks = os.environ["SLURM_NTASKS"], []
for task in range(int(count)):
    own = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_STEP_NUM_TASKS": count}
    out, err = streams(task)
    command = [argument.replace("%j", job) for argument in arguments]
    tasks.append(subprocess.Popen(command, env={**os.environ, **own}, stdout=out, stderr=err))
while any(task.poll() is None for task in tasks):
    if options.get("--kill-on-bad-exit") == "1" and any(task.poll() for task in tasks):
        for task in tasks:
            task.terminate()
        time.sleep(5)
        for task in tasks:
            task.kill()
    time.sleep(0.1)
sys.exit(max(abs(task.returncode) for task in tasks))
"""

SACCT = """
from pathlib import Path
print("JobID|State|NodeList")
for state in Path(__file__).parent.glob("job-*"):
    print(f"{state.name[4:]}|{state.read_text() or 'RUNNING'}|localhost")
"""


def install(folder: Path) -> Path:
    """Write the commands into a new folder, to be prepended to PATH, and return it."""
    folder.mkdir()
    for name, code in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scancel", "")):
        command = folder / name
        command.write_text(f"#!{sys.executable}\n{code}")
        command.chmod(0o755)
    return folder
