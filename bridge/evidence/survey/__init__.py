"""What an access log says of a site: where to begin, how far it is, and what nobody asks for."""
