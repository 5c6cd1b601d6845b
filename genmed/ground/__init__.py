"""What everything stands on; imports nothing of genmed but itself."""
