"""Data sets as other tools export them, built small: what each is and what must be read."""
