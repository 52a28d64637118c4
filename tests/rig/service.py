"""Runs one service, as `posthouse <service>` does."""

import sys

from cli.running import run

if __name__ == "__main__":
    run(sys.argv[1])
