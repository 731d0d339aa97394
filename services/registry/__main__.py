"""Run the registry alone: ``python -m services.registry``."""

from services.__main__ import main

if __name__ == "__main__":
    main(["registry"])
