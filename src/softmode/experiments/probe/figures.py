"""The figures of a probe."""

from softmode.experiments.probe.gains import gains
from softmode.experiments.probe.response_kernel import response_kernel
from softmode.experiments.probe.states import samples, states
from softmode.plots.critical_details import critical_details
from softmode.plots.critical_dynamics import critical_dynamics

FIGURES = {
    "critical_dynamics": critical_dynamics,
    "critical_dynamics_details": critical_details,
    "gains": gains,
    "response_kernel": response_kernel,
    "states": states,
    "samples": samples,
}
