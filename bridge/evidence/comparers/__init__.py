"""Where two answers differ, and what of it is noise. Pure."""
