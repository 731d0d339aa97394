"""Run the codec room alone: ``python -m services.codec``."""

from services.__main__ import main

if __name__ == "__main__":
    main(["codec"])
