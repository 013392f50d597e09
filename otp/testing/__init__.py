"""Help for testing actors and supervisors."""
