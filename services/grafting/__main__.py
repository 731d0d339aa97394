"""Run the grafting room alone: ``python -m services.grafting``."""

from services.__main__ import main

if __name__ == "__main__":
    main(["grafting"])
