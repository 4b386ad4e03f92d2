"""The list of experiments. Everything that knows them, the command line and Python's functions too, is made from it."""

# name -> package of config.py, measure.py, analyse.py and figures.py
EXPERIMENTS = {
    name: f"softmode.experiments.{name}"
    for name in (
        "window",
        "probe",
        "instability",
        "attention",
        "information",
        "sector",
        "clones",
        "pulse",
        "susceptibility",
        "schedule",
        "anneal",
        "patch",
        "dictionary",
        "equilibrium",
        "quench",
        "validate",
    )
}
