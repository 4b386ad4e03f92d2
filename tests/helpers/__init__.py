"""What tests of several modules share: seeded numbers, models with known answers, dense references, refusals."""
