"""Ray Serve configurations, one per deployment target. They are a package so that the wheel contains them."""
