"""Training configurations, one per stage and size. They are a package so that the wheel contains them."""
