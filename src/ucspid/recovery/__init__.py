"""What makes a restart exact, and shows that it was."""
