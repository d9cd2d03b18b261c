"""Loading MongoDB from the site's database while both are live; `load` is the whole of it."""
