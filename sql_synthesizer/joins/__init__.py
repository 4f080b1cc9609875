"""Join ordering: the graph, the search for an order, estimates from an engine, and the way back into SQL."""
