"""Start and stop, settings, and the way in from other Ray jobs."""

from cluster.connect import ClusterHandle, connect_ray

__all__ = ["ClusterHandle", "connect_ray"]
