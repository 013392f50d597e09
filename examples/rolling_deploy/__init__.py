"""A rolling deployment on one machine, and an audit of it."""
