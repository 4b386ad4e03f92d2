"""Guidance in a window of noise levels: the weight w(sigma), its forms for pipelines, and diffusers' own guiders."""
