"""What the drivers in steps/ and the tools in utils/ call."""
