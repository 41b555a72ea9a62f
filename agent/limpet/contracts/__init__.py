"""What a plugin of each group must do, and the data that it takes and gives. No loader, no wording."""
