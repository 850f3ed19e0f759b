"""From recordings to the features that networks see. Import the module you need."""
