"""``python -m stripemeter.cli``, and what ``.venv/bin/stripemeter`` runs."""

from stripemeter.cli.app import main

if __name__ == "__main__":
    main(prog_name="stripemeter")
