"""Settings of every test: the shapes in the signatures of `models` checked at run time, and one thread."""

from jaxtyping import install_import_hook

install_import_hook(["emotivetalk.models"], "beartype.beartype")  # before anything imports emotivetalk.models

import torch  # noqa: E402 the hook comes first

torch.set_num_threads(1)
