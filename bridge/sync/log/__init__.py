"""How does a change of the site's tables get here that nobody told us of? From the database's own
log: MariaDB's, and MySQL's.

`replica` speaks to the server as a replica does, `format` and `rows` read its events, `cells` the
values in them, `position` says where we are and which version follows from it, and `stream` makes
of all that the events of entities. `capture` is the process that applies them.
"""
