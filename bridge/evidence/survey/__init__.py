"""What an access log says of a site: where to begin, how far it is, and what nobody asks for."""

from bridge.evidence.survey.order import Proposal, propose
from bridge.evidence.survey.paths import Rule
from bridge.evidence.survey.survey import Survey

__all__ = ["Proposal", "Rule", "Survey", "propose"]
