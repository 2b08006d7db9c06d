"""A finished model for other programs: `python scripts/export.py run=DIR format=onnx out=FOLDER`."""

from nelbo.commands.export import main

if __name__ == "__main__":
    main()
