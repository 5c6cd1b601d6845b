"""Networks: the table of names (`table`, without torch) and how one is built (`build`)."""
