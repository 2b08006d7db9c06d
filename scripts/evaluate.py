"""How good is a trained model, and how certain are the figures: `python scripts/evaluate.py run=outputs/...`."""

from nelbo.commands.evaluate import main

if __name__ == "__main__":
    main()
