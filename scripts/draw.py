"""Pictures of a finished run: `python scripts/draw.py samples run=outputs/...`."""

from nelbo.commands.draw import main

if __name__ == "__main__":
    main()
