"""The fitting methods, one file each: from a table of runs to a law."""
