"""``python -m router_ml.cli``."""

from router_ml.cli import main

if __name__ == "__main__":
    main()
