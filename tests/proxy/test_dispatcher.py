"""What the shell itself must not do, whatever the modules beside it decide."""

import subprocess
import sys

FORKING = """
import os
from werkzeug.test import Client
from bridge.proxy.dispatcher import Dispatcher
from bridge.proxy.hooks import Hooks
from tests.proxy.site import TOP, table

class Print(Hooks):
    def after_response(self, outcome):
        os.write(1, f"{outcome.request_id}\\n".encode())

ours = table(top=TOP.replace("forge.example", "localhost").replace(":8090", ":1"))
client = Client(Dispatcher(lambda: ours, hooks=[Print()]))
client.get("/", buffered=True)
child = os.fork()
for _ in range(5):
    client.get("/", buffered=True)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_forked_process_gives_its_requests_other_ids() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True)
    ids = done.stdout.split()
    assert len(ids) == 11, done.stderr
    assert len(set(ids)) == 11
