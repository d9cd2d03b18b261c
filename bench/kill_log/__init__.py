"""Everything is killed while a site edits whose database's log is the source: `bench kill --source
log`.

`site` is the tables and the servers. `editor` edits them; `edits`, `families` and `definitions` are
what it does. `watch` is what MongoDB shows meanwhile, `judge` what must hold in the end, `damage`
what must make it fail, and `loop` puts it together.
"""
