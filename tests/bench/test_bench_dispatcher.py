"""`python -m bench dispatcher` runs and ends with one JSON object; its speed is not tested."""

import json
import subprocess
import sys


def test_the_last_line_is_the_json_object_that_is_promised() -> None:
    command = [sys.executable, "-m", "bench", "dispatcher", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result) == {"bench", "ratios", "figures"}
    assert result["bench"] == "dispatcher"
    assert "dispatcher_over_proxymiddleware" in result["ratios"]
    assert {"added_p50_us", "direct_rps", "nginx_rps"} <= set(result["figures"])
    assert all(value > 0 for value in result["ratios"].values())
