"""`python -m emotivetalk` runs the `emotivetalk` command."""

from emotivetalk.cli import main

if __name__ == "__main__":
    main()
