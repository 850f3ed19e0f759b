"""The library of the drivers in steps/ and the tools in utils/."""
