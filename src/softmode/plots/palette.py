"""Colours of lines and marks, which people with any kind of colour vision can tell apart."""

BLUE, GREEN, ORANGE, VERMILLION, PURPLE = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#AA4499"
GREY, SHADE = "0.45", "0.88"
