"""Features of recordings, as networks see them. Import the module you need."""
