"""Which run is next, where it can be held, when that may be, and why it is not yet."""
