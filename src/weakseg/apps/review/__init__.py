"""`weakseg review`: a page on which people look through a run's masks and correct them."""
