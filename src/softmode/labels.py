"""What a sample is asked to be: a class, or values of some attributes, in the words of the command line."""

import difflib
from collections.abc import Mapping, Sequence

from softmode.message import quote, refusal

# a class; values of attributes, as hat=1+glasses=0; or neither
Label = int | str | None
# what a network is told: a class, or a value of each attribute, where the number of its values stands for none
Shown = int | tuple[int, ...] | None


def read_label(label: Label, classes: int, attributes: Mapping[str, Sequence[str]], name: str = "labels") -> Shown:
    """Return what a network is told of a label.

    Args:
        label: A class, values of some attributes, each by its place or its name (`hat=1`, `hat=worn+skin=2`), or None.
        classes: Number of classes; 0 for none.
        attributes: Names of the values of each attribute.
        name: What messages call it.

    Returns:
        The class; or the value of each attribute, the number of its values where it is not asked for.

    Raises:
        ValueError: If there is no such class, attribute or value, or an attribute is asked for twice.
    """
    if label is None:
        return None
    if not attributes:
        if isinstance(label, str) or not 0 <= label < classes:
            known = f"0 to {classes - 1}" if classes else "none: the model has no classes"
            raise refusal(f"{name}: got {quote(label) if isinstance(label, str) else label}; expected {known}")
        return label
    if not isinstance(label, str):
        first = next(iter(attributes))
        raise refusal(f"{name}: got {label}; expected attributes, {', '.join(attributes)}, for example {first}=1")
    found: dict[str, int] = {}
    for part in label.split("+"):
        attribute, _, value = (word.strip() for word in part.partition("="))
        if attribute not in attributes:
            near = difflib.get_close_matches(attribute[:40], attributes, n=3)
            remedy = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(attributes)}"
            raise refusal(f"{name}: there is no attribute {quote(attribute)}; {remedy}")
        if attribute in found:
            raise refusal(
                f"{name}: got {attribute} twice in {quote(label)}; name it once, or deal both out: "
                f"{attribute}=0,{attribute}=1"
            )
        values = tuple(attributes[attribute])
        found[attribute] = _place(value, values)
        if found[attribute] < 0:
            known = ", ".join(f"{place} ({each})" for place, each in enumerate(values))
            raise refusal(f"{name}: got {attribute}={quote(value)[1:-1]}; expected one of {known}")
    return tuple(found.get(each, len(values)) for each, values in attributes.items())


def _place(value: str, values: Sequence[str]) -> int:
    """Return the place of a value by its name or its place, or -1."""
    if value in values:
        return values.index(value)
    place = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
    return place if place < len(values) else -1
