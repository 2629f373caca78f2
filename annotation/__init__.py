"""Drawing, following and correcting masks in the browser: the session in its folder, the worker, the server and the page."""

import util  # noqa: F401 (before PyTorch is loaded)
