"""What is a column's value in a document, and what is a row's key? One rule for every producer.

`column` is what a database declares, `catalog` reads it, `values` are the types of documents,
`rules` decide which column has which, `keys` are rows' names as text, and `wire` is how columns
are selected, so that what is read is exact and does not depend on a driver or a session.
"""
