"""``python -m palimpsest.cli``, for where the command is not on the path."""

from palimpsest.cli import main

if __name__ == "__main__":
    main()
