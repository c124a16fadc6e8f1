"""tune: search the settings that matter most, on train and validation rows alone."""
