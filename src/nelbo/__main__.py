"""`python -m nelbo`: the same as the command `nelbo`."""

from nelbo.commands.main import main

if __name__ == "__main__":
    main()
