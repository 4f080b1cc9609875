"""Ray actors: thin shells around the pure code, each with a readiness check and metrics.

They are plain classes; ``ray.remote`` is applied where they are started.
"""
