"""Run the unlearning room alone: ``python -m services.unlearning``."""

from services.__main__ import main

if __name__ == "__main__":
    main(["unlearning"])
