"""Reports on trainings, from their logs: web pages, speeds and simulations; reports on files."""
