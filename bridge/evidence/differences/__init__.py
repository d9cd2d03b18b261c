"""What was found when answers were compared: kept, counted, and shown."""
