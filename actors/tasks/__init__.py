"""Tasks: what is declared, called and decided about jobs."""
