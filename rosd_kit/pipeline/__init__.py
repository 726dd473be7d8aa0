"""From problems to training samples: sampling, verification, gating, reflection, localization, teacher prompts."""
