"""Which statements may run: one that only reads, by a list of what is allowed; and what in a text looks like an attack.

What runs is never the text that came in: it is written anew from the tree that was looked at.
"""
