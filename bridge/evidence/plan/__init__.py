"""What a flip would have done to the requests of a log: decided again, nothing sent."""

from bridge.evidence.plan.plan import Change, Plan
from bridge.evidence.plan.tables import Tables, at_shares

__all__ = ["Change", "Plan", "Tables", "at_shares"]
