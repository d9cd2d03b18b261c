"""Triggers on the site's tables, for code that cannot change.

They only note which row changed, by one plain INSERT into the outbox; `bridge.sync.touched` reads
the row later and gives it its version. `noted` is what is noted of a table, `mysql`, `postgresql`
and `sqlite` write the SQL, `made` looks at what is there, and `commands` does what
`bridgectl sync triggers` is asked for.
"""
