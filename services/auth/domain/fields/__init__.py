"""Which fields of a request are in force, and what is said of all others."""
