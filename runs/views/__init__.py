"""Pages about runs: overview, list, a run, a new run."""
