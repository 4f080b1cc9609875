"""Vector stores: one port, one way to lay entities out as points, one contract suite."""
