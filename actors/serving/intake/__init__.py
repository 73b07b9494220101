"""Intake: uploads and URLs become checked, normalised inputs and one durable job."""
