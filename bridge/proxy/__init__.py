"""Who answers this request, and answer it."""
