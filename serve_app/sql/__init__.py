"""SQL on the cluster: statements run in replicas of their own, beside the ingress."""
