"""A sync.yaml from a database, and what is to be said of its tables before they are mirrored.

`draft` makes of a table what stands in sync.yaml, `look` reads some of its rows, `evidence` says
in which character set texts really are, `advice` what does not mirror well, `written` writes the
file. `listed` shows the types of what sync.yaml has already, `misfits` what does not fit the
database, `rewritten` which documents would become others.
"""
