"""Load tests: a schedule of arrivals that does not wait for answers, and what the cluster did under it."""
