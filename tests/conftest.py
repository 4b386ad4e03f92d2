"""Array shapes and types are checked in tests only: the hook must stand before softmode is first imported."""

import jaxtyping
import torch

jaxtyping.install_import_hook("softmode", "beartype.beartype")
torch.set_num_threads(1)
