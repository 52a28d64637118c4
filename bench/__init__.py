"""Speed questions, each answered beside its peers or its past: `python -m bench NAME`."""
