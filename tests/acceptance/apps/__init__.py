"""What stands on the two sides of the bridge in these tests. Imported by the servers."""
