"""`python -m mechdistill`."""

from mechdistill.cli import main

if __name__ == "__main__":
    main()
