"""The forge's pages in Python, read from MongoDB, byte for byte those of the PHP side."""
