"""The site's SQL database, read by entity: rows as events, and sums of keys and versions."""
