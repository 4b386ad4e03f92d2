"""softmode: measure critical dynamics in diffusion models.

The public names are imported when first used, so that `import softmode` costs next to nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
