"""The program `andor`, also `python -m andor`: what Ctrl-C ends with one line from the first import on."""

import sys

from andor.show.interrupts import end_at_once


def main() -> int:
    """Run the command line of this process; returns the exit code, as `andor.show.cli.main`."""
    end_at_once()
    from andor.show import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
