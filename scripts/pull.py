"""A model from the Hugging Face Hub: `python scripts/pull.py repo=OWNER/NAME out=FOLDER`."""

from nelbo.commands.pull import main

if __name__ == "__main__":
    main()
