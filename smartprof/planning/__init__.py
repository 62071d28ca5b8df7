"""From a profile and an acceptance to the settings that pay; no model, no torch."""
