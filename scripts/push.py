"""A finished model to the Hugging Face Hub: `python scripts/push.py run=DIR repo=OWNER/NAME`."""

from nelbo.commands.push import main

if __name__ == "__main__":
    main()
