"""The program `andor`, also `python -m andor`: `andor.cli`, which Ctrl-C ends with one line from its first import."""

import sys

from andor.signals import end_when_interrupted


def main() -> int:
    """Run the command line of this process; returns the exit code, as `andor.cli.main`."""
    end_when_interrupted()
    from andor import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
