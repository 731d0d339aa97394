"""Run the datastore room alone: ``python -m services.datastore``."""

from services.__main__ import main

if __name__ == "__main__":
    main(["datastore"])
