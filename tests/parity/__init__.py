"""The same numbers as other libraries, where those are right."""
