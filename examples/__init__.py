"""Programs that show holdfast at work."""
