"""The behaviours a durable worker picks."""

import _holdfast

_holdfast.check_siblings(__name__)  # another package of a sibling's name in the way is one clear ImportError
