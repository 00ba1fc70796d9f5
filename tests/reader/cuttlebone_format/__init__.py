"""The objects of a cuttlebone repository, decoded as docs/format.md describes them.

Nothing here accesses files: every decoder takes bytes and returns plain values, or raises
FormatError with one of the error kinds of tests/vectors/README.md. Section numbers refer to
docs/format.md.
"""

from .bodies import *  # noqa: F403
from .crypto import *  # noqa: F403
from .fields import *  # noqa: F403
from .keys import *  # noqa: F403
from .objects import *  # noqa: F403
from .order import *  # noqa: F403
from .packs import *  # noqa: F403
from .parity import *  # noqa: F403
from .trees import *  # noqa: F403
