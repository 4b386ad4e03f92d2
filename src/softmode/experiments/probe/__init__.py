"""The probe: sample a model, or noise its data, and measure its critical dynamics beside the Gaussian null model."""
