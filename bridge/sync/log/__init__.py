"""How does a change of the site's tables get here that nobody told us of?

From the log of MariaDB, or MySQL. `replica` speaks to the server as a replica does, `format` and
`rows` read its events, `cells` the values in them, `statements` what comes in words. `position`
says where we are and which version follows from it, `stream` makes of all that changes of
entities, `follow` sees that it is still the same log, and `capture` writes what it says to MongoDB.
`end` asks where it ends, for visitors who have just written.
"""
