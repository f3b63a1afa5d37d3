"""`python -m actors VERB` is `callboard VERB`."""

from actors.cli import main

if __name__ == "__main__":
    main()
