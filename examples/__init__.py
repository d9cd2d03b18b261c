"""Sites to try the bridge on."""
