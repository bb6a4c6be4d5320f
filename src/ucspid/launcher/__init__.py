"""The launchers: processes that start programs, one privilege profile each."""
