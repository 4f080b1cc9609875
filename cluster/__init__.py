"""Start and stop, settings, and the way in from other Ray jobs."""

from cluster.connect import connect_ray, remote

__all__ = ["connect_ray", "remote"]
