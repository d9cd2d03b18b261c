"""Make MongoDB say what the PHP side's database says.

`apply` writes events so that an older version never wins, `worker` takes them from the queue.
"""
