"""The last step of a run that diverged, again: `python scripts/replay.py bundle=outputs/.../crash/step-000123.pt`."""

from nelbo.commands.replay import main

if __name__ == "__main__":
    main()
