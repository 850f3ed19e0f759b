"""Data-directory tools, job launchers, and what the drivers in steps/ share (driver.py)."""
