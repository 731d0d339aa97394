"""Run the decoding room alone: ``python -m services.decoding``."""

from services.__main__ import main

if __name__ == "__main__":
    main(["decoding"])
