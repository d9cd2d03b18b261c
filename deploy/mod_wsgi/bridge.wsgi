"""The bridge under Apache's mod_wsgi. Copy this file and name it in site.conf.

Environment variables of Apache (SetEnv) do not reach a WSGI application: what it needs is here.
Secrets are in files that only the user of the processes may read.
"""

import os
import sys

SITE = "/srv/shop"

os.environ["BRIDGE_ROUTES"] = f"{SITE}/routes.yaml"
os.environ["BRIDGE_STATE_DIR"] = f"{SITE}/.bridge"
os.environ["BRIDGE_ACCESS_LOG"] = "/var/log/bridge/shop.jsonl"
if os.path.exists(f"{SITE}/secret"):
    os.environ["BRIDGE_SECRET_FILE"] = f"{SITE}/secret"
if SITE not in sys.path:
    sys.path.insert(0, SITE)  # handlers are imported from here

from bridge.wsgi import application  # noqa: E402, F401 - after the settings, for Apache
